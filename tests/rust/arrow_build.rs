//! Producers of the records of the Arrow C interfaces, for the other files: what they give is freed by their own
//! callbacks, which count.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use _core::source::arrow::abi::{ArrowArray, ArrowSchema, Owned, Record};
use _core::source::arrow::schema::Field;
use _core::source::arrow::{NoBatch, RecordBatch};

/// How many records a producer has given, and got back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<(AtomicUsize, AtomicUsize)>);

impl Ledger {
    pub(crate) fn given(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn back(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    pub(crate) fn give(&self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn take_back(&self) {
        self.0.1.fetch_add(1, Ordering::SeqCst);
    }

    /// Every record was given back, each once. (Twice is a double free, too, which valgrind says.)
    pub(crate) fn assert_settled(&self) {
        assert_eq!(self.back(), self.given(), "records that were given back");
    }
}

/// The type of an array: what becomes an `ArrowSchema`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Type {
    pub(crate) format: String,
    pub(crate) name: String,
    /// Keys and values.
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) children: Vec<Type>,
    /// What the values of its dictionary are.
    pub(crate) dictionary: Option<Box<Type>>,
}

impl Type {
    pub(crate) fn new(format: &str, children: impl IntoIterator<Item = Self>) -> Self {
        Self { format: format.to_owned(), children: children.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The same as an extension type.
    pub(crate) fn extension(mut self, name: &str, metadata: &str) -> Self {
        self.metadata.push(("other".to_owned(), String::new()));
        self.metadata.push(("ARROW:extension:name".to_owned(), name.to_owned()));
        self.metadata.push(("ARROW:extension:metadata".to_owned(), metadata.to_owned()));
        self
    }

    /// The record, which has to be given back.
    pub(crate) fn export(&self, ledger: &Ledger) -> ArrowSchema {
        let children = exported(&self.children, |child| child.export(ledger));
        let kept = Box::new(Kept {
            ledger: ledger.clone(),
            bytes: vec![string(&self.format), string(&self.name), pairs(&self.metadata)],
            buffers: Vec::new(),
            shown: children.clone(),
            children,
            dictionary: self.dictionary.as_ref().map(|values| Box::into_raw(Box::new(values.export(ledger)))),
        });
        ledger.give();
        let start = |index: usize| kept.bytes[index].as_ptr().cast::<c_char>();
        ArrowSchema {
            format: start(0),
            name: start(1),
            metadata: if self.metadata.is_empty() { ptr::null() } else { start(2) },
            flags: 2,
            n_children: i64::try_from(kept.children.len()).unwrap(),
            children: kept.shown.as_ptr().cast_mut(),
            dictionary: kept.dictionary.unwrap_or(ptr::null_mut()),
            release: Some(free::<ArrowSchema>),
            private_data: Box::into_raw(kept).cast(),
        }
    }

    /// The field that the crate reads out of it.
    pub(crate) fn field(&self) -> Arc<Field> {
        let ledger = Ledger::default();
        let schema = owned(self.export(&ledger));
        // SAFETY: `export` has made it.
        Arc::new(unsafe { Field::read(schema.get()) }.unwrap())
    }
}

fn string(text: &str) -> Vec<u8> {
    CString::new(text).unwrap().into_bytes_with_nul()
}

/// Metadata, as the specification has them.
fn pairs(metadata: &[(String, String)]) -> Vec<u8> {
    let mut bytes = i32::try_from(metadata.len()).unwrap().to_ne_bytes().to_vec();
    for part in metadata.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend(i32::try_from(part.len()).unwrap().to_ne_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// The values of an array: what becomes an `ArrowArray`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    pub(crate) length: usize,
    pub(crate) nulls: i64,
    pub(crate) offset: usize,
    /// None: at NULL.
    pub(crate) buffers: Vec<Option<Vec<u8>>>,
    pub(crate) children: Vec<Data>,
    pub(crate) dictionary: Option<Box<Data>>,
    /// Whether buffers begin at odd addresses.
    pub(crate) misaligned: bool,
}

impl Data {
    pub(crate) fn new(length: usize, buffers: impl IntoIterator<Item = Option<Vec<u8>>>) -> Self {
        Self { length, buffers: buffers.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn with(self, children: impl IntoIterator<Item = Self>) -> Self {
        Self { children: children.into_iter().collect(), ..self }
    }

    /// The record, which has to be given back.
    pub(crate) fn export(&self, ledger: &Ledger) -> ArrowArray {
        let bytes: Vec<_> = self.buffers.iter().map(|buffer| self.shifted(buffer.as_deref())).collect();
        let buffers = bytes.iter().zip(&self.buffers).map(|(kept, buffer)| match buffer {
            // The address of memory that begins at a multiple of 8, or one byte on.
            Some(_) => kept.as_ptr().wrapping_add(odd(kept, self.misaligned)).cast::<c_void>(),
            None => ptr::null(),
        });
        let children = exported(&self.children, |child| child.export(ledger));
        let kept = Box::new(Kept {
            ledger: ledger.clone(),
            buffers: buffers.collect(),
            shown: children.clone(),
            children,
            dictionary: self.dictionary.as_ref().map(|values| Box::into_raw(Box::new(values.export(ledger)))),
            bytes,
        });
        ledger.give();
        ArrowArray {
            length: i64::try_from(self.length).unwrap(),
            null_count: self.nulls,
            offset: i64::try_from(self.offset).unwrap(),
            n_buffers: i64::try_from(kept.buffers.len()).unwrap(),
            n_children: i64::try_from(kept.children.len()).unwrap(),
            buffers: kept.buffers.as_ptr().cast_mut(),
            children: kept.shown.as_ptr().cast_mut(),
            dictionary: kept.dictionary.unwrap_or(ptr::null_mut()),
            release: Some(free::<ArrowArray>),
            private_data: Box::into_raw(kept).cast(),
        }
    }

    /// The bytes of a buffer, where they are to lie.
    fn shifted(&self, buffer: Option<&[u8]>) -> Vec<u8> {
        let Some(buffer) = buffer else { return Vec::new() };
        // Memory of the allocator mostly begins at a multiple of 8: then nothing is behind the last byte.
        let front = usize::from(self.misaligned);
        let mut kept = Vec::with_capacity((front + buffer.len()).max(1));
        if odd(&kept, self.misaligned) != front {
            kept = Vec::with_capacity(buffer.len() + 9);
        }
        kept.resize(odd(&kept, self.misaligned), 0xEE);
        kept.extend(buffer);
        kept
    }
}

/// Bytes from the beginning of some memory to a multiple of 8, and one more if that is wanted.
fn odd(kept: &[u8], misaligned: bool) -> usize {
    let address = kept.as_ptr().addr();
    address.next_multiple_of(8) - address + usize::from(misaligned)
}

fn exported<T, R>(children: &[T], export: impl Fn(&T) -> R) -> Vec<*mut R> {
    children.iter().map(|child| Box::into_raw(Box::new(export(child)))).collect()
}

/// What a record that was given needs, until it is given back.
struct Kept<R: Given> {
    ledger: Ledger,
    bytes: Vec<Vec<u8>>,
    buffers: Vec<*const c_void>,
    children: Vec<*mut R>,
    /// The children that it says it has: mostly the same.
    shown: Vec<*mut R>,
    dictionary: Option<*mut R>,
}

/// The records that have children.
pub(crate) trait Given: Record {
    fn private(&mut self) -> &mut *mut c_void;
    fn children(&self) -> *mut *mut Self;
}

impl Given for ArrowSchema {
    fn private(&mut self) -> &mut *mut c_void {
        &mut self.private_data
    }

    fn children(&self) -> *mut *mut Self {
        self.children
    }
}

impl Given for ArrowArray {
    fn private(&mut self) -> &mut *mut c_void {
        &mut self.private_data
    }

    fn children(&self) -> *mut *mut Self {
        self.children
    }
}

impl<R: Given> Drop for Kept<R> {
    fn drop(&mut self) {
        self.ledger.take_back();
        for &child in self.children.iter().chain(&self.dictionary) {
            // SAFETY: `export` has made both by `into_raw`, and nobody moves children. (Tests take callbacks out of
            // them; they are freed all the same.)
            unsafe {
                drop(Box::from_raw((*(*child).private()).cast::<Self>()));
                drop(Box::from_raw(child));
            }
        }
    }
}

unsafe extern "C" fn free<R: Given>(record: *mut R) {
    // SAFETY: whoever has the record gives it back, once, and `export` has made what it needs.
    unsafe {
        drop(Box::from_raw((*(*record).private()).cast::<Kept<R>>()));
        *(*record).release() = None;
        *(*record).private() = ptr::null_mut();
    }
}

/// A child of a record that was given, to be changed.
pub(crate) fn child<R: Given>(record: &mut R, index: usize) -> &mut R {
    // SAFETY: `export` has made the children; the borrow keeps them.
    unsafe { &mut **record.children().add(index) }
}

/// Replaces the pointer to a child.
pub(crate) fn set_child<R: Given>(record: &mut R, index: usize, to: *mut R) {
    // SAFETY: likewise.
    unsafe { *record.children().add(index) = to }
}

/// Replaces the pointer to a buffer.
pub(crate) fn set_buffer(array: &mut ArrowArray, index: usize, to: *const c_void) {
    // SAFETY: `export` has made as many buffers.
    unsafe { *array.buffers.add(index) = to }
}

/// Moves a record that was given.
pub(crate) fn owned<R: Record>(mut record: R) -> Owned<R> {
    // SAFETY: `export` has made it; what tests change is what can be checked.
    unsafe { Owned::take(&mut record) }.unwrap()
}

/// A batch of a record that was given, or was changed after that.
pub(crate) fn batch_of(field: &Arc<Field>, array: ArrowArray) -> Result<RecordBatch, NoBatch> {
    // SAFETY: its buffers are as long as `Data` says; tests change only what can be checked.
    unsafe { RecordBatch::new(Arc::clone(field), owned(array)) }
}

/// A batch of one column, of as many rows as that has.
pub(crate) fn batch(ty: &Type, column: &Data) -> RecordBatch {
    let table = Data::new(column.length, [None]).with([column.clone()]);
    let field = Type::new("+s", [ty.clone()]).field();
    batch_of(&field, table.export(&Ledger::default())).unwrap()
}

/// The bytes of numbers.
#[expect(clippy::unnecessary_wraps, reason = "others are at NULL")]
pub(crate) fn bytes<const N: usize, T: Copy>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Option<Vec<u8>> {
    Some(values.iter().flat_map(|&value| of(value)).collect())
}

/// 32-bit integers, as a buffer.
pub(crate) fn narrow(values: &[i32]) -> Option<Vec<u8>> {
    bytes(values, i32::to_ne_bytes)
}

/// 64-bit integers, as a buffer.
pub(crate) fn wide(values: &[i64]) -> Option<Vec<u8>> {
    bytes(values, i64::to_ne_bytes)
}

/// Bits, the lowest of a byte first; those that nobody reads are set.
#[expect(clippy::unnecessary_wraps, reason = "others are at NULL")]
pub(crate) fn bits(values: &[bool]) -> Option<Vec<u8>> {
    let mut bytes = vec![u8::MAX; values.len().div_ceil(8)];
    for (index, _) in values.iter().enumerate().filter(|(_, bit)| !**bit) {
        bytes[index / 8] &= !(1 << (index % 8));
    }
    Some(bytes)
}

/// 64-bit integers as an array, without nulls.
pub(crate) fn integers(values: &[i64]) -> Data {
    Data::new(values.len(), [None, wide(values)])
}

/// Lists of 64-bit integers.
pub(crate) fn lists(values: &[&[i64]]) -> Data {
    let mut offsets = vec![0];
    offsets.extend(values.iter().scan(0, |end, list| {
        *end += i32::try_from(list.len()).unwrap();
        Some(*end)
    }));
    Data::new(values.len(), [None, narrow(&offsets)]).with([integers(&values.concat())])
}

/// The type of such lists.
pub(crate) fn list_type() -> Type {
    Type::new("+l", [Type::new("l", [])])
}
