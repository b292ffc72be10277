//! The three records of the Arrow C data and stream interfaces, and who owns them.
//!
//! Source: the Arrow specification, "The Arrow C data interface" and "The Arrow C stream interface". Our own
//! declarations rather than a crate's: they are fixed for ever, and a crate ties its version to ours.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::ptr;

/// `struct ArrowSchema`: the type of an array, and of its children.
#[repr(C)]
#[derive(Debug)]
#[expect(missing_docs, reason = "the specification has them")]
pub struct ArrowSchema {
    pub format: *const c_char,
    pub name: *const c_char,
    pub metadata: *const c_char,
    pub flags: i64,
    pub n_children: i64,
    pub children: *mut *mut ArrowSchema,
    pub dictionary: *mut ArrowSchema,
    pub release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    pub private_data: *mut c_void,
}

/// `struct ArrowArray`: the values of an array, and its children.
#[repr(C)]
#[derive(Debug)]
#[expect(missing_docs, reason = "the specification has them")]
pub struct ArrowArray {
    pub length: i64,
    pub null_count: i64,
    pub offset: i64,
    pub n_buffers: i64,
    pub n_children: i64,
    pub buffers: *mut *const c_void,
    pub children: *mut *mut ArrowArray,
    pub dictionary: *mut ArrowArray,
    pub release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    pub private_data: *mut c_void,
}

/// `struct ArrowArrayStream`: arrays of one type, one after the other.
#[repr(C)]
#[derive(Debug)]
#[expect(missing_docs, reason = "the specification has them")]
pub struct ArrowArrayStream {
    pub get_schema: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int>,
    pub get_next: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int>,
    pub get_last_error: Option<unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char>,
    pub release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    pub private_data: *mut c_void,
}

/// A record that is given back by a callback of its own.
pub trait Record: Sized {
    /// A record that holds nothing.
    const EMPTY: Self;
    /// Its callback; none once it has been given back, or moved.
    fn release(&mut self) -> &mut Option<unsafe extern "C" fn(*mut Self)>;
}

impl Record for ArrowSchema {
    const EMPTY: Self = Self {
        format: ptr::null(),
        name: ptr::null(),
        metadata: ptr::null(),
        flags: 0,
        n_children: 0,
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: None,
        private_data: ptr::null_mut(),
    };

    fn release(&mut self) -> &mut Option<unsafe extern "C" fn(*mut Self)> {
        &mut self.release
    }
}

impl Record for ArrowArray {
    const EMPTY: Self = Self {
        length: 0,
        null_count: 0,
        offset: 0,
        n_buffers: 0,
        n_children: 0,
        buffers: ptr::null_mut(),
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: None,
        private_data: ptr::null_mut(),
    };

    fn release(&mut self) -> &mut Option<unsafe extern "C" fn(*mut Self)> {
        &mut self.release
    }
}

impl Record for ArrowArrayStream {
    const EMPTY: Self =
        Self { get_schema: None, get_next: None, get_last_error: None, release: None, private_data: ptr::null_mut() };

    fn release(&mut self) -> &mut Option<unsafe extern "C" fn(*mut Self)> {
        &mut self.release
    }
}

/// A record that is ours, and given back once, when it is dropped.
#[derive(Debug)]
pub struct Owned<R: Record>(R);

// SAFETY: a record is only read, and the interface lets it be given back by any thread.
unsafe impl<R: Record> Send for Owned<R> {}
// SAFETY: likewise.
unsafe impl<R: Record> Sync for Owned<R> {}

impl<R: Record> Owned<R> {
    /// Moves a record here; its producer sees that it was moved. None: it has been given back, or moved, before.
    ///
    /// # Safety
    /// The producer has made the record as the specification demands: pointers lead to what it says, for as long
    /// as it has not been given back.
    #[must_use]
    pub unsafe fn take(record: &mut R) -> Option<Self> {
        record.release().is_some().then(|| Self(std::mem::replace(record, R::EMPTY)))
    }

    /// The record.
    #[must_use]
    pub fn get(&self) -> &R {
        &self.0
    }
}

impl<R: Record> Drop for Owned<R> {
    fn drop(&mut self) {
        if let Some(release) = *self.0.release() {
            // SAFETY: by `take`'s contract; the callback has not been called, as whoever calls it takes it out of
            // the record, and `self` ends here.
            unsafe { release(&raw mut self.0) };
        }
    }
}

/// Why a stream gives no more arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// A callback has failed, with this number of `errno.h` and, mostly, a sentence.
    Failed {
        /// The number.
        code: c_int,
        /// The sentence.
        message: String,
    },
    /// A callback is missing, or gave a record that has nothing.
    Empty,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { code, message } if message.is_empty() => write!(f, "error {code}"),
            Self::Failed { message, .. } => f.write_str(message),
            Self::Empty => f.write_str("the stream gives nothing that the interface demands"),
        }
    }
}

/// A stream that is ours. Its callbacks may run whatever code its producer has, also Python's: call it where that
/// is no harm, and without the GIL, which that code may wait for in another thread.
#[derive(Debug)]
pub struct Stream(Owned<ArrowArrayStream>);

impl Stream {
    /// The stream that was taken.
    #[must_use]
    pub fn new(stream: Owned<ArrowArrayStream>) -> Self {
        Self(stream)
    }

    /// The type of its arrays.
    pub fn schema(&mut self) -> Result<Owned<ArrowSchema>, StreamError> {
        let mut schema = ArrowSchema::EMPTY;
        let get = self.0.0.get_schema.ok_or(StreamError::Empty)?;
        // SAFETY: by the contract of `Owned::take`; the stream has not been given back.
        let code = unsafe { get(&raw mut self.0.0, &raw mut schema) };
        self.check(code)?;
        // SAFETY: the callback has filled it in.
        unsafe { Owned::take(&mut schema) }.ok_or(StreamError::Empty)
    }

    /// The next array; none where it ends.
    pub fn next_array(&mut self) -> Result<Option<Owned<ArrowArray>>, StreamError> {
        let mut array = ArrowArray::EMPTY;
        let get = self.0.0.get_next.ok_or(StreamError::Empty)?;
        // SAFETY: as above.
        let code = unsafe { get(&raw mut self.0.0, &raw mut array) };
        self.check(code)?;
        // SAFETY: the callback has filled it in, or left it empty: then there are no more.
        Ok(unsafe { Owned::take(&mut array) })
    }

    fn check(&mut self, code: c_int) -> Result<(), StreamError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: as above; the sentence lives until the next call.
        let message = self.0.0.get_last_error.map(|last| unsafe { text(last(&raw mut self.0.0)) });
        Err(StreamError::Failed { code, message: message.flatten().unwrap_or_default() })
    }
}

/// The string at `start`, if it is not NULL.
///
/// # Safety
/// A string is there, and ends in 0.
pub(super) unsafe fn text(start: *const c_char) -> Option<String> {
    // SAFETY: by contract.
    (!start.is_null()).then(|| unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned())
}
