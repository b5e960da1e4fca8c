//! Files under several names, and files that are removed or replaced while they are open.

mod names;
mod replaced;
