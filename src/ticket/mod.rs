//! The Early-Bird method: masks, distances, detector, search, surgery, training on.
