"""One-operator TFLite models of a table's signatures: which to try, how to build them, what they should say."""
