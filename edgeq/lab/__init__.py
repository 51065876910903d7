"""The far end of the cable: transports, deployment, measurement on the device."""
