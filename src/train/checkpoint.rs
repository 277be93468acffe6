//! State dicts in safetensors files, with PyTorch names and OIHW weights.
