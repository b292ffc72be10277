//! Any types, values and ways to lay them out in memory, as strategies.

use _core::cells::Element;
use proptest::prelude::*;

use crate::arrow_values::{Form, Of, Tree};
use crate::memory::ELEMENTS;

pub(crate) fn form() -> impl Strategy<Value = Form> {
    (0_usize..12, 0_usize..12, any::<[bool; 3]>()).prop_map(|(before, behind, [misaligned, bits, counted])| Form {
        before,
        behind,
        misaligned,
        bits,
        counted,
    })
}

pub(crate) fn forms() -> impl Strategy<Value = Vec<Form>> {
    prop::collection::vec(form(), 5)
}

/// Types of a few levels.
pub(crate) fn of() -> impl Strategy<Value = Of> {
    let leaf = prop_oneof![
        1 => Just(Of::Null),
        2 => Just(Of::Bool),
        1 => Just(Of::Half),
        1 => any::<bool>().prop_map(Of::Text),
        1 => Just(Of::View),
        5 => prop::sample::select(&ELEMENTS[..]).prop_map(|element| match element {
            Element::Bool => Of::Bool,
            other => Of::Number(other),
        }),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            3 => (any::<bool>(), inner.clone()).prop_map(|(wide, inner)| Of::List(wide, Box::new(inner))),
            2 => (0_usize..4, inner.clone()).prop_map(|(size, inner)| Of::Fixed(size, Box::new(inner))),
            1 => prop::collection::vec(inner, 0..3).prop_map(Of::Struct),
        ]
    })
}

/// A value of a type; `nulls`: some are null, at every level.
pub(crate) fn tree(of: &Of, nulls: bool) -> BoxedStrategy<Tree> {
    let bytes = |size: usize| prop::collection::vec(any::<u8>(), size).prop_map(Tree::Bytes).boxed();
    let value = match of {
        Of::Null => return Just(Tree::Null).boxed(),
        Of::Bool => (0_u8..2).prop_map(|bit| Tree::Bytes(vec![bit])).boxed(),
        Of::Number(element) => bytes(element.size()),
        Of::Half => bytes(2),
        Of::List(_, inner) => prop::collection::vec(tree(inner, nulls), 0..5).prop_map(Tree::Items).boxed(),
        Of::Fixed(size, inner) => prop::collection::vec(tree(inner, nulls), *size).prop_map(Tree::Items).boxed(),
        Of::Struct(fields) => {
            fields.iter().map(|field| tree(field, nulls)).collect::<Vec<_>>().prop_map(Tree::Items).boxed()
        }
        Of::Text(_) | Of::View => prop::collection::vec(any::<u8>(), 0..30).prop_map(Tree::Bytes).boxed(),
    };
    if nulls { prop_oneof![1 => Just(Tree::Null), 8 => value].boxed() } else { value }
}

/// A type, and values of it.
pub(crate) fn column() -> impl Strategy<Value = (Of, Vec<Tree>)> {
    (of(), any::<bool>()).prop_flat_map(|(of, nulls)| {
        let rows = prop::collection::vec(tree(&of, nulls), 0..12);
        (Just(of), rows)
    })
}
