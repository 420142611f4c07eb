//! Whole groups against what people are told of them.
