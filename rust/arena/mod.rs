//! The memory that batches lie in, used again, and seen by two processes.
//!
//! A batch takes a [`Lease`]; the lease is the base object of the batch's arrays, so a block of memory
//! is free when the last of them, or of the views and tensors made from them, is gone.
//!
//! # What there is
//!
//! An **arena** ([`table::Arena`]) is address space, most of it without memory: a table, then blocks.
//! A process has one over private memory. A `DataLoader` worker has another one over a file without a
//! name (memfd), which is mapped twice: by the worker, its **owner**, and by the process that receives
//! its batches. So there is one mapping and one descriptor, however many batches are made and kept; no
//! limit on shared memory (/dev/shm) applies; and the pages of a block that is used again are there
//! already, on both sides.
//!
//! A **block** is a range of the arena. All that decides what may be done with it is one atomic word,
//! its [`block::State`]: generation, the owner's lease, leases of receivers, messages in flight, forks, and
//! whether it is being emptied, and by whom.
//!
//! # Who may do what, and why no block is used again while somebody sees it
//!
//! 1. To *see* a block means to have an address in it that may be read or written. A process gets such
//!    an address only with a lease: as the owner that takes a block (`taken`), or as a receiver of a
//!    message (`received`). Both count one lease up in the word, before the address is given away, and
//!    only dropping the lease counts it down (`dropped`), after the last array over it is gone.
//! 2. A block changes hands in two ways: the owner takes it, or somebody empties it (gives its memory
//!    back, so that it reads as zeros). Both begin with a compare-and-swap from a state in which leases,
//!    messages and forks are all zero, and which is not being emptied. So no move that counts something
//!    up can come in between, and of several that try, one succeeds. While it is being emptied, every
//!    other move is refused, but for the one that ends it.
//! 3. A message is counted (`sent`) by a process that has a lease, before the message is put on its way:
//!    the sender's lease keeps the block until then, the count afterwards. Receiving turns the count
//!    into a lease in one step. So from the owner's taking it to the last drop there is no moment in which
//!    the word says that nobody sees or will see the block.
//! 4. A message counts once. Were one received twice, the second would find no message in flight, or those
//!    of another message of the same generation, which has the same values; after the block was taken
//!    again, another generation. It is refused, and changes nothing.
//! 5. Each move is acquire and release: who takes a block sees all that was written to it by those who
//!    held leases before; who receives a message sees what the sender wrote.
//!
//! **A process is killed** at any point: its leases and the messages it would have received stay
//! counted, so its blocks are not used again; never too early. If it was the receiver, its workers end as
//! well, and the file goes with their mappings. If it was the owner, nobody takes blocks of this arena any
//! more; whoever drops the last lease that it has, or receives the next message of any arena, finds that
//! the owner is dead (a pidfd can be read; or, where no descriptor was left for one until then, no process has the id
//! under which the owner was seen), takes its leases and messages for void (`abandoned`), gives back
//! all memory that nobody sees, and forgets the arena. A block that the owner was emptying when it was killed is
//! emptied once more: the word says that it was the owner, so that what another thread here empties is left to
//! that one. (Marks of the owner's forks stay: what they made may live on. Their memory goes with the mappings.)
//!
//! **A process forks** ([`fork`]): the child has the parent's addresses without a lease of its own. Before
//! the fork, every block of which it has a lease gets a mark (`forked`), which keeps it from being taken or
//! emptied even when no lease is left: it is *retired*. Leases that are made between that moment and the
//! fork are marked as well. The child inherits one end of a pipe; when that end is closed, which is when
//! the child and all that it forked are gone, the parent takes its marks back (`unforked`). A child never
//! counts anything down: it knows by a page that the kernel clears at a fork that leases in its memory are
//! its parent's (`current`). (A child that closes descriptors which it does not know, as daemons do, is taken
//! to be gone; it must not look at its parent's batches any more.) Private memory needs none of this: the kernel copies what either changes.
//!
//! # What is given back, and when
//!
//! In use: any amount, and nothing ever waits. Free: as much as was needed again lately ([`mark`]); the
//! owner writes it into the table, so that the receiver, who drops the last leases, gives back what is
//! beyond. At most one block is emptied for each that is taken or dropped. A worker that ends gives back
//! all that is free.
//!
//! # Locks
//!
//! The state of a process (its pools, the arenas it has attached) has a lock. It is held while memory is
//! asked for and given back, never while Python code runs or another process or thread is waited for. To
//! drop a lease takes no lock.

mod atomic;
pub mod block;
pub mod census;
mod current;
pub mod fork;
mod lease;
mod mapping;
pub mod mark;
pub mod message;
pub mod owner;
pub mod pool;
pub mod process;
pub mod table;

pub use lease::{Lease, OutOfMemory};
pub use process::{Memory, take};
