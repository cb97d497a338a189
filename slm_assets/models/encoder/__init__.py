"""The encoder rung: the linear rung with one more block of features, a small sentence encoder's vectors of the texts.

The encoder is an ONNX file with its tokenizer, run by ONNX Runtime on one thread. One is shipped with the extra
`slm-assets[encoder]` (MiniLM); a checkpoint names it by its digest, and carries any other.
"""
