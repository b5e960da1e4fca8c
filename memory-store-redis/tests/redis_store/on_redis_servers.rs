//! Tests on separate servers, which they start, stop, kill and slow down.

mod archive;
mod cluster;
mod crash;
mod earlier;
mod erased_bytes;
mod faults;
mod fencing;
mod flush;
mod link;
mod programs;
mod safety;
mod sentinel;
mod silence;
mod watch;
