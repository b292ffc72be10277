//! The memory that batches lie in. A batch takes one [`Lease`]; the lease is the base object of the
//! batch's arrays, so its block is free when the last of them is.

mod lease;

pub use lease::{Lease, OutOfMemory};
