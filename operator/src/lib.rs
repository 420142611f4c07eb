//! The operator of Coppice.
