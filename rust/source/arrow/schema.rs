//! The types of columns: what the format strings say, as far as it is read here.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::slice;

use super::Broken;
use super::abi::{ArrowSchema, text};
use crate::cells::Element;

/// How wide offsets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// 32 bits.
    Narrow,
    /// 64 bits.
    Wide,
}

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but nulls.
    Null,
    /// Bools, a bit each.
    Bool,
    /// Integers or floating-point numbers.
    Number(Element),
    /// Floating-point numbers of 16 bits.
    Half,
    /// Lists, of which offsets say where they begin.
    List(Offsets),
    /// Lists that all have so many items.
    FixedSizeList(usize),
    /// For each field a child.
    Struct,
    /// Text (or, if not, bytes), of which offsets say where it begins.
    Text(Offsets, bool),
    /// Text (or, if not, bytes), in records of 16 bytes that hold it or say where it is.
    View(bool),
    /// Numbers that stand for the values of a dictionary.
    Dictionary(Element),
    /// A type that is not read.
    Other,
}

/// What an extension type says of the rows of its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tensor {
    /// Each is a list, of the values of an array of this shape.
    Fixed(Vec<usize>),
    /// Each is a struct, of a list of values and a list of sizes.
    Variable,
    /// It cannot be read: its metadata are not understood.
    Unknown,
}

/// A column, or what is in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type, as messages name it.
    pub type_name: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether it is an extension type.
    pub is_extension: bool,
    /// Whether its rows are arrays, as that says.
    pub tensor: Option<Tensor>,
    /// Its children: what lists hold, the fields of structs.
    pub children: Vec<Field>,
    /// The values of a dictionary.
    pub dictionary: Option<Box<Field>>,
}

/// So deep types may be nested: no real one is, and a hostile one must not end the stack.
const MOST_NESTED: usize = 32;

impl Field {
    /// Reads a schema.
    ///
    /// # Safety
    /// The producer has made it as the specification demands: strings end in 0, and pointers lead to what it says.
    pub unsafe fn read(schema: &ArrowSchema) -> Result<Self, Broken> {
        // SAFETY: by contract.
        unsafe { read(schema, 0) }
    }

    /// Whether each of its rows takes memory: there may be any number of those that take none.
    #[must_use]
    pub fn takes_memory(&self) -> bool {
        match self.kind {
            Kind::Null | Kind::Other => false,
            Kind::FixedSizeList(size) => size > 0 && self.children[0].takes_memory(),
            Kind::Struct => self.children.iter().any(Self::takes_memory),
            _ => true,
        }
    }

    /// Whether it holds lists.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List(_) | Kind::FixedSizeList(_))
    }
}

/// # Safety
/// As [`Field::read`].
unsafe fn read(schema: &ArrowSchema, depth: usize) -> Result<Field, Broken> {
    if depth > MOST_NESTED {
        return Err(Broken("its type is nested too deep"));
    }
    if schema.release.is_none() {
        return Err(Broken("a schema of it was released"));
    }
    // SAFETY: by contract.
    let (format, name, metadata) = unsafe {
        (text(schema.format).ok_or(Broken("it has no format"))?, text(schema.name).unwrap_or_default(), schema.metadata)
    };
    let count = usize::try_from(schema.n_children).map_err(|_| Broken("it has a negative number of children"))?;
    if count > 0 && schema.children.is_null() {
        return Err(Broken("its children are at NULL"));
    }
    let mut children = Vec::new();
    for index in 0..count {
        // SAFETY: by contract there are so many.
        let child = unsafe { (*schema.children.add(index)).as_ref() }.ok_or(Broken("a child is at NULL"))?;
        // SAFETY: by contract.
        children.push(unsafe { read(child, depth + 1) }?);
    }
    // SAFETY: by contract it is a schema, or NULL.
    let dictionary = match unsafe { schema.dictionary.as_ref() } {
        // SAFETY: by contract.
        Some(values) => Some(Box::new(unsafe { read(values, depth + 1) }?)),
        None => None,
    };
    let kind = match (kind(&format), &dictionary) {
        (Ok(Kind::Number(element)), Some(_)) if !element.is_float() => Kind::Dictionary(element),
        (_, Some(_)) => Kind::Other,
        (kind, None) => kind?,
    };
    if matches!(kind, Kind::List(_) | Kind::FixedSizeList(_)) && count != 1 {
        return Err(Broken("a list has another number of children than one"));
    }
    let mut type_name = if schema.dictionary.is_null() { type_name(&format) } else { "dictionary".to_owned() };
    let (mut is_extension, mut is_tensor) = (false, None);
    // SAFETY: by contract.
    if let Some((name, metadata)) = unsafe { extension(metadata) }? {
        (is_extension, is_tensor) = (true, tensor(&name, &metadata));
        let refused =
            if is_tensor == Some(Tensor::Unknown) { ", its dimensions permuted or not understood" } else { "" };
        type_name = format!("{type_name} ({name}{refused})");
    }
    Ok(Field { name, type_name, kind, is_extension, tensor: is_tensor, children, dictionary })
}

fn kind(format: &str) -> Result<Kind, Broken> {
    use Element::{Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    use Offsets::{Narrow, Wide};
    Ok(match format {
        "n" => Kind::Null,
        "b" => Kind::Bool,
        "c" => Kind::Number(Int8),
        "C" => Kind::Number(UInt8),
        "s" => Kind::Number(Int16),
        "S" => Kind::Number(UInt16),
        "i" => Kind::Number(Int32),
        "I" => Kind::Number(UInt32),
        "l" => Kind::Number(Int64),
        "L" => Kind::Number(UInt64),
        "e" => Kind::Half,
        "f" => Kind::Number(Float32),
        "g" => Kind::Number(Float64),
        "u" => Kind::Text(Narrow, true),
        "U" => Kind::Text(Wide, true),
        "z" => Kind::Text(Narrow, false),
        "Z" => Kind::Text(Wide, false),
        "vu" => Kind::View(true),
        "vz" => Kind::View(false),
        "+l" => Kind::List(Narrow),
        "+L" => Kind::List(Wide),
        "+s" => Kind::Struct,
        other => match other.strip_prefix("+w:") {
            Some(size) => {
                Kind::FixedSizeList(size.parse().map_err(|_| Broken("its lists have a size that is no number"))?)
            }
            None => Kind::Other,
        },
    })
}

/// The name of a type in messages, as pyarrow has it where that is short.
fn type_name(format: &str) -> String {
    let name = match format {
        "n" => "null",
        "b" => "bool",
        "e" => "halffloat",
        "u" | "U" | "vu" => "string",
        "z" | "Z" | "vz" => "binary",
        "+l" | "+L" => "list",
        "+s" => "struct",
        "+vl" | "+vL" => "list_view",
        "+r" => "run_end_encoded",
        "+m" => "map",
        other if other.starts_with("+w:") => "fixed_size_list",
        other if other.starts_with("+u") => "union",
        other if other.starts_with('w') => "fixed_size_binary",
        other if other.starts_with('d') => "decimal",
        other if other.starts_with("td") => "date",
        other if other.starts_with("tt") => "time",
        other if other.starts_with("ts") => "timestamp",
        other if other.starts_with("tD") => "duration",
        other if other.starts_with("ti") => "interval",
        other => match kind(other) {
            Ok(Kind::Number(element)) => element.name(),
            _ => return format!("unknown (format {other:?})"),
        },
    };
    name.to_owned()
}

/// The name and the metadata of the extension type, if the metadata of a field say that it is one.
///
/// # Safety
/// Metadata are NULL, or as the specification demands: a number of pairs, and of each the key and the value, each
/// after its length.
unsafe fn extension(metadata: *const c_char) -> Result<Option<(String, Vec<u8>)>, Broken> {
    if metadata.is_null() {
        return Ok(None);
    }
    let mut at = metadata.cast::<u8>();
    let (mut name, mut value) = (None, Vec::new());
    // SAFETY: by contract.
    unsafe {
        for _ in 0..number(&mut at)? {
            let (key, entry) = (bytes(&mut at)?, bytes(&mut at)?);
            match key {
                b"ARROW:extension:name" => name = Some(String::from_utf8_lossy(entry).into_owned()),
                b"ARROW:extension:metadata" => value = entry.to_vec(),
                _ => {}
            }
        }
    }
    Ok(name.map(|name| (name, value)))
}

/// # Safety
/// An integer of 32 bits is there.
unsafe fn number(at: &mut *const u8) -> Result<usize, Broken> {
    // SAFETY: by contract; it is not aligned.
    let number = unsafe { at.cast::<i32>().read_unaligned() };
    *at = at.wrapping_add(4);
    usize::try_from(number).map_err(|_| Broken("its metadata have a negative length"))
}

/// # Safety
/// A length is there, and as many bytes after it, which stay there for `'a`.
unsafe fn bytes<'a>(at: &mut *const u8) -> Result<&'a [u8], Broken> {
    // SAFETY: by contract.
    let bytes = unsafe {
        let length = number(at)?;
        slice::from_raw_parts(*at, length)
    };
    *at = at.wrapping_add(bytes.len());
    Ok(bytes)
}

/// What the extension types of Arrow itself and of Ray Data say of arrays; all others are as their storage is.
fn tensor(name: &str, metadata: &[u8]) -> Option<Tensor> {
    let text = String::from_utf8_lossy(metadata);
    let ordered = || match after(&text, "\"permutation\"") {
        Some(order) if !order.starts_with("null") => {
            list(order).is_some_and(|order| order.iter().copied().eq(0..order.len()))
        }
        _ => true,
    };
    Some(match name {
        "ray.data.arrow_tensor" | "ray.data.arrow_tensor_v2" => list(&text).map_or(Tensor::Unknown, Tensor::Fixed),
        "arrow.fixed_shape_tensor" if ordered() => {
            after(&text, "\"shape\"").and_then(list).map_or(Tensor::Unknown, Tensor::Fixed)
        }
        "ray.data.arrow_variable_shaped_tensor" => Tensor::Variable,
        "arrow.variable_shape_tensor" if ordered() => Tensor::Variable,
        "arrow.fixed_shape_tensor" | "arrow.variable_shape_tensor" => Tensor::Unknown,
        _ => return None,
    })
}

/// What the value of a key begins with. (A dimension may be called like a key.)
fn after<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let mut found = json.match_indices(key).map(|(at, _)| json[at + key.len()..].trim_start());
    found.find_map(|after| after.strip_prefix(':')).map(str::trim_start)
}

/// The JSON list of sizes that a text begins with.
fn list(json: &str) -> Option<Vec<usize>> {
    let (items, _) = json.trim_start().strip_prefix('[')?.split_once(']')?;
    if items.trim().is_empty() {
        return Some(Vec::new());
    }
    items.split(',').map(|item| item.trim().parse().ok()).collect()
}
