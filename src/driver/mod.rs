//! The seam to a GPU: `trait Driver`, about thirty calls named after the CUDA driver API.
