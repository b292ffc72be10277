//! Types and records that may contradict themselves, but whose buffers are as long as their own numbers demand: what is
//! read besides is read out of bounds.
#![allow(unsafe_code)]

use std::ptr;

use _core::source::arrow::abi::{ArrowArray, ArrowSchema};
use arbitrary::Result;

use super::given::{Bytes, any, any_number, any_size, maybe, seldom, several};
use crate::arrow_build::{Data, Type, child, set_buffer, set_child};

/// What is in a buffer, as far as its size depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    /// No buffer that is looked at.
    Nothing,
    Bits,
    /// Numbers of so many bytes.
    Numbers(usize),
    /// Offsets of so many bytes, of items or of text.
    Offsets(usize, bool),
    /// So many items each.
    Fixed(usize),
    Fields,
    Views,
}

const FORMATS: [(&str, Holds); 22] = [
    ("l", Holds::Numbers(8)),
    ("+l", Holds::Offsets(4, false)),
    ("+L", Holds::Offsets(8, false)),
    ("u", Holds::Offsets(4, true)),
    ("Z", Holds::Offsets(8, true)),
    ("vu", Holds::Views),
    ("+s", Holds::Fields),
    ("b", Holds::Bits),
    ("c", Holds::Numbers(1)),
    ("C", Holds::Numbers(1)),
    ("s", Holds::Numbers(2)),
    ("S", Holds::Numbers(2)),
    ("e", Holds::Numbers(2)),
    ("i", Holds::Numbers(4)),
    ("I", Holds::Numbers(4)),
    ("f", Holds::Numbers(4)),
    ("L", Holds::Numbers(8)),
    ("g", Holds::Numbers(8)),
    ("n", Holds::Nothing),
    ("tdD", Holds::Nothing),
    ("d:19,10", Holds::Nothing),
    ("vz", Holds::Views),
];

const EXTENSIONS: [(&str, &str); 8] = [
    ("ray.data.arrow_tensor", "[2, 1]"),
    ("ray.data.arrow_tensor_v2", "[3]"),
    ("ray.data.arrow_variable_shaped_tensor", "1"),
    ("arrow.fixed_shape_tensor", "{\"shape\":[1,2]}"),
    ("arrow.fixed_shape_tensor", "{\"shape\":[4294967296,4294967296,2]}"),
    ("arrow.fixed_shape_tensor", "{\"shape\":[2],\"permutation\":[0]}"),
    ("arrow.variable_shape_tensor", "{}"),
    ("arrow.json", ""),
];

/// A type, and what data of it need.
#[derive(Debug)]
pub(crate) struct Node {
    format: String,
    name: &'static str,
    holds: Holds,
    extension: Option<(&'static str, &'static str)>,
    children: Vec<Node>,
    dictionary: Option<Box<Node>>,
}

impl Node {
    /// The type of a table.
    pub(crate) fn of_struct(u: &mut Bytes<'_>) -> Result<Self> {
        let children = several(u, 1..=2, |u| Self::any(u, 4))?;
        Ok(Self {
            format: "+s".to_owned(),
            name: "",
            holds: Holds::Fields,
            extension: None,
            children,
            dictionary: None,
        })
    }

    fn any(u: &mut Bytes<'_>, depth: usize) -> Result<Self> {
        let (format, holds) = match u.int_in_range(0..=24_usize)? {
            fixed @ 22.. => {
                let size = if fixed == 24 { any_size(u)? } else { u.int_in_range(0..=3)? };
                (format!("+w:{size}"), Holds::Fixed(size))
            }
            index => (FORMATS[index].0.to_owned(), FORMATS[index].1),
        };
        let children = match holds {
            Holds::Offsets(_, false) | Holds::Fixed(_) | Holds::Fields if depth == 0 => {
                return Ok(Self { format: "l".to_owned(), ..Self::plain(Holds::Numbers(8)) });
            }
            Holds::Offsets(_, false) | Holds::Fixed(_) => vec![Self::any(u, depth - 1)?],
            Holds::Fields => several(u, 0..=2, |u| Self::any(u, depth - 1))?,
            _ => Vec::new(),
        };
        let is_index = ["c", "C", "s", "S", "i", "I", "l", "L"].contains(&&*format);
        let dictionary = if is_index && depth > 0 && u.ratio(1, 4)? { Some(Box::new(Self::any(u, 0)?)) } else { None };
        let extension = if u.ratio(1, 4)? { Some(*u.choose(&EXTENSIONS)?) } else { None };
        let name = u.choose(&["data", "shape", "a"])?;
        Ok(Self { format, name, holds, extension, children, dictionary })
    }

    fn plain(holds: Holds) -> Self {
        Self { format: String::new(), name: "", holds, extension: None, children: Vec::new(), dictionary: None }
    }

    pub(crate) fn ty(&self) -> Type {
        let ty = Type::new(&self.format, self.children.iter().map(Self::ty)).named(self.name);
        let ty = Type { dictionary: self.dictionary.as_ref().map(|values| Box::new(values.ty())), ..ty };
        self.extension.map_or_else(|| ty.clone(), |(name, metadata)| ty.clone().extension(name, metadata))
    }

    /// Data of any number of rows, and how the record is changed when it is made.
    pub(crate) fn any_data(&self, u: &mut Bytes<'_>) -> Result<(Data, Changes)> {
        let rows = u.int_in_range(0..=8)?;
        self.data(u, rows)
    }

    /// Data of mostly so many rows.
    fn data(&self, u: &mut Bytes<'_>, rows: usize) -> Result<(Data, Changes)> {
        let (length, offset) = match u.int_in_range(0..=9_u8)? {
            0..=4 => (rows, 0),
            5 | 6 => (rows, u.int_in_range(0..=9)?),
            7 => (rows + u.int_in_range(0..=3)?, u.int_in_range(0..=9)?),
            8 => (rows.saturating_sub(1), 0),
            // There may be any number of rows that take no memory.
            _ => (any_size(u)? / 2, u.int_in_range(0..=9)?),
        };
        let length = length.min(if self.takes_memory() { 40 } else { usize::MAX / 2 });
        let end = (length + offset).min(usize::MAX / 2);
        let has_bits = length <= 40 && u.arbitrary()?;
        let validity = if has_bits { Some(any_bytes(u, end.div_ceil(8))?) } else { None };
        let mut buffers = vec![validity];
        let mut inner = 0;
        match self.holds {
            Holds::Nothing => buffers.clear(),
            Holds::Bits => buffers.push(Some(any_bytes(u, end.div_ceil(8))?)),
            Holds::Numbers(size) => buffers.push(Some(any_bytes(u, end * size)?)),
            Holds::Offsets(size, is_text) => {
                let (offsets, last) = any_offsets(u, end, size)?;
                inner = last.clamp(0, 60);
                buffers.push(Some(offsets));
                if is_text {
                    buffers.push(if last > 0 || u.arbitrary()? { Some(vec![b'a'; inner]) } else { None });
                }
            }
            Holds::Fixed(size) => inner = end.saturating_mul(size),
            Holds::Fields => inner = end,
            Holds::Views => views(u, end, &mut buffers)?,
        }
        let (mut children, mut changes) = (Vec::new(), Vec::new());
        for node in &self.children {
            let (data, change) = node.data(u, inner.min(if node.takes_memory() { 60 } else { usize::MAX / 2 }))?;
            children.push(data);
            changes.push(change);
        }
        let (dictionary, values) = match &self.dictionary {
            Some(node) => {
                let rows = u.int_in_range(0..=4)?;
                let (data, changes) = node.data(u, rows)?;
                (Some(Box::new(data)), Some(Box::new(changes)))
            }
            None => (None, None),
        };
        let nulls = seldom(u, if has_bits { -1 } else { 0 }, any_number)?;
        let resized = changes.iter().any(Changes::resizes);
        let change = if u.ratio(1, 12)? { Some(self.any_change(u, buffers.len(), resized)?) } else { None };
        let misaligned = u.arbitrary()?;
        let data = Data { length, nulls, offset, buffers, children, dictionary, misaligned };
        Ok((data, Changes { change, children: changes, dictionary: values }))
    }

    fn takes_memory(&self) -> bool {
        match self.holds {
            Holds::Nothing => false,
            Holds::Fixed(size) => size > 0 && self.children[0].takes_memory(),
            Holds::Fields => self.children.iter().any(Self::takes_memory),
            _ => true,
        }
    }

    /// A change that can be found out, or makes no difference; a child may have another number of rows by then.
    fn any_change(&self, u: &mut Bytes<'_>, buffers: usize, resized: bool) -> Result<Change> {
        const TOO_MUCH: [i64; 5] = [i64::MAX, i64::MAX - 1, i64::MIN, -1, i64::MAX - 9];
        let number = *u.choose(&TOO_MUCH)?;
        let is_checked = match self.holds {
            // Of bits and bytes there may be so many, for all that can be known.
            Holds::Bits | Holds::Numbers(1) => false,
            // These are compared with their children, who may say the same.
            Holds::Fields | Holds::Fixed(_) => self.takes_memory() && !resized,
            _ => self.takes_memory(),
        };
        Ok(match u.int_in_range(0..=9_u8)? {
            0 if is_checked => Change::Length(number),
            1 if is_checked => Change::Offset(number),
            0 | 1 => Change::Length(-1),
            2 => Change::Buffers(if self.holds == Holds::Views { u.int_in_range(-1..=2)? } else { number }),
            3 => Change::Children(if u.arbitrary()? { number } else { self.children.len().cast_signed() as i64 + 1 }),
            4 => Change::NoBuffers,
            5 if buffers > 0 => Change::NoBuffer(u.int_in_range(0..=buffers - 1)?),
            6 => Change::NoChildren,
            7 if !self.children.is_empty() => Change::NoChild(u.int_in_range(0..=self.children.len() - 1)?),
            8 => Change::NoDictionary,
            _ => Change::Released,
        })
    }
}

/// A change of a record.
#[derive(Clone, Copy, Debug)]
enum Change {
    Length(i64),
    Offset(i64),
    Buffers(i64),
    Children(i64),
    NoBuffers,
    NoBuffer(usize),
    NoChildren,
    NoChild(usize),
    NoDictionary,
    Released,
}

/// The changes of a record and of those below it.
#[derive(Debug)]
pub(crate) struct Changes {
    change: Option<Change>,
    children: Vec<Changes>,
    dictionary: Option<Box<Changes>>,
}

impl Changes {
    fn resizes(&self) -> bool {
        matches!(self.change, Some(Change::Length(_) | Change::Offset(_)))
    }

    pub(crate) fn apply(&self, record: &mut ArrowArray) {
        for (index, changes) in self.children.iter().enumerate() {
            changes.apply(child(record, index));
        }
        // SAFETY: `export` has made it, or there is none.
        if let (Some(changes), Some(values)) = (&self.dictionary, unsafe { record.dictionary.as_mut() }) {
            changes.apply(values);
        }
        match self.change {
            None => {}
            Some(Change::Length(length)) => record.length = length,
            Some(Change::Offset(offset)) => record.offset = offset,
            Some(Change::Buffers(buffers)) => record.n_buffers = buffers,
            Some(Change::Children(children)) => record.n_children = children,
            Some(Change::NoBuffers) => record.buffers = ptr::null_mut(),
            Some(Change::NoBuffer(index)) => set_buffer(record, index, ptr::null()),
            Some(Change::NoChildren) => record.children = ptr::null_mut(),
            Some(Change::NoChild(index)) => set_child(record, index, ptr::null_mut()),
            Some(Change::NoDictionary) => record.dictionary = ptr::null_mut(),
            Some(Change::Released) => record.release = None,
        }
    }
}

fn any_bytes(u: &mut Bytes<'_>, len: usize) -> Result<Vec<u8>> {
    let usual = if u.arbitrary()? { 0xFF } else { 0 };
    Ok((0..len).map(|_| u.arbitrary().unwrap_or(usual)).map(|byte: u8| if byte == 7 { usual } else { byte }).collect())
}

/// One more than rows, mostly ascending; and the last of them.
fn any_offsets(u: &mut Bytes<'_>, rows: usize, size: usize) -> Result<(Vec<u8>, usize)> {
    let (mut bytes, mut end) = (Vec::new(), 0_i64);
    for _ in 0..=rows {
        let offset = match u.int_in_range(0..=15_u8)? {
            0 => any_number(u)?,
            1 => u.int_in_range(0..=80)?,
            _ => end,
        };
        #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
        if size == 4 {
            bytes.extend((offset as i32).to_ne_bytes());
        } else {
            bytes.extend(offset.to_ne_bytes());
        }
        end += u.int_in_range(0..=3)?;
    }
    // The last one is what the buffer behind them is made for.
    let last = u.int_in_range(0..=60_usize)?;
    let at = bytes.len() - size;
    bytes[at..].copy_from_slice(&last.to_le_bytes()[..size]);
    Ok((bytes, last))
}

/// Records of text, buffers of it, and their lengths.
fn views(u: &mut Bytes<'_>, rows: usize, buffers: &mut Vec<Option<Vec<u8>>>) -> Result<()> {
    let sizes = several(u, 0..=2, |u| u.int_in_range(0..=40_u8))?;
    let mut records = Vec::new();
    for _ in 0..rows {
        let long = u.arbitrary()?;
        let length = if long { u.int_in_range(13..=30)? } else { u.int_in_range(-1..=12)? };
        for number in [length, 0, u.int_in_range(-1..=2)?, u.int_in_range(-1..=30)?] {
            #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
            let number = if u.ratio(1, 32)? { any_number(u)? as i32 } else { number };
            records.extend(number.to_ne_bytes());
        }
    }
    buffers.push(Some(records));
    buffers.extend(sizes.iter().map(|&size| Some(vec![b'b'; size.into()])));
    let mut lengths = Vec::new();
    for size in sizes {
        let said = if u.ratio(1, 8)? { any_number(u)?.min(size.into()) } else { size.into() };
        lengths.extend(said.to_ne_bytes());
    }
    buffers.push(Some(lengths));
    Ok(())
}

/// How a schema is changed when it is made.
#[derive(Debug)]
pub(crate) struct SchemaChange {
    which: u8,
    depth: usize,
    metadata: Vec<u8>,
}

impl SchemaChange {
    pub(crate) fn apply(&self, record: &mut ArrowSchema) {
        let mut record = record;
        for _ in 0..self.depth {
            if record.n_children > 0 {
                record = child(record, 0);
            }
        }
        match self.which {
            0 => record.format = ptr::null(),
            1 => record.name = ptr::null(),
            2 => record.n_children = -1,
            3 => record.n_children = i64::MIN,
            4 => record.children = ptr::null_mut(),
            5 if record.n_children > 0 => set_child(record, 0, ptr::null_mut()),
            6 => record.release = None,
            7 => record.metadata = self.metadata.as_ptr().cast(),
            8 => record.dictionary = ptr::null_mut(),
            9 if record.n_children > 0 => record.n_children -= 1,
            _ => {}
        }
    }
}

/// A type of any formats, as deep as can be, and a change of it.
pub(crate) fn any_schema(u: &mut Bytes<'_>) -> Result<(Type, SchemaChange)> {
    let mut ty = any_type(u, 2)?;
    for _ in 0..if u.ratio(1, 4)? { u.int_in_range(0..=40)? } else { 0 } {
        ty = Type::new(u.choose(&["+l", "+w:2", "+s"])?, [ty]);
    }
    let mut metadata = any_length(u, 3)?;
    for _ in 0..6 {
        // As many bytes as the length says; where that is negative, nothing behind it is read.
        let bytes = several(u, 0..=20, any::<u8>)?;
        metadata.extend(any_length(u, bytes.len())?);
        metadata.extend(bytes);
    }
    let change = SchemaChange { which: u.int_in_range(0..=12)?, depth: u.int_in_range(0..=3)?, metadata };
    Ok((ty, change))
}

/// That number, or a negative one.
fn any_length(u: &mut Bytes<'_>, length: usize) -> Result<Vec<u8>> {
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    let length = seldom(u, length, |u| Ok(*u.choose(&[-1, i32::MIN])?))?;
    Ok(length.to_ne_bytes().to_vec())
}

fn any_type(u: &mut Bytes<'_>, depth: usize) -> Result<Type> {
    let format = if u.arbitrary()? { u.choose(&FORMATS)?.0.to_owned() } else { any_text(u)? };
    let children = several(u, 0..=if depth == 0 { 0 } else { 2 }, |u| any_type(u, depth - 1))?;
    let mut ty = Type::new(&format, children).named(&any_text(u)?);
    if depth > 0 {
        ty.dictionary = if u.ratio(1, 4)? { Some(Box::new(any_type(u, depth - 1)?)) } else { None };
    }
    if let Some((name, metadata)) = maybe(u, |u| Ok(*u.choose(&EXTENSIONS)?))? {
        let metadata = if u.arbitrary()? { any_text(u)? } else { metadata.to_owned() };
        ty = ty.extension(name, &metadata);
    }
    Ok(ty)
}

/// Of signs that formats and metadata have.
fn any_text(u: &mut Bytes<'_>) -> Result<String> {
    const SIGNS: &[u8] = b"+w:0123456789lLsvuz[]{},\": \"shape\"permutationnull-.dt\xC3\xA4";
    let signs = several(u, 0..=24, |u| Ok(*u.choose(SIGNS)?))?;
    Ok(String::from_utf8_lossy(&signs).into_owned())
}
