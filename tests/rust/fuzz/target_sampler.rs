//! Plans of epochs for any lengths and rules: no pair comes twice, no batch has more than it may, all ranks have as many.

use _core::sampler::grid::Grid;
use _core::sampler::{Limits, Pairs, Plan, Rules, plan};
use arbitrary::Result;

use super::given::{Bytes, any_length, any_size, maybe, seldom, several};

pub fn sampler(data: &[u8]) {
    let _ = epoch(&mut Bytes::new(data));
}

fn epoch(u: &mut Bytes<'_>) -> Result<()> {
    let rows = u.int_in_range(1..=3)?;
    let count = u.int_in_range(0..=40)?;
    let lengths = several(u, count * rows..=count * rows, any_tokens)?;
    let tiles = if u.arbitrary()? { Vec::new() } else { several(u, count..=count, any_tokens)? };
    let grids = several(u, 0..=5, |u| any_grid(u, rows))?;
    let multiple_of = seldom(u, 1, |u| Ok(any_size(u)?.max(1)))?;
    // As the Python layer has it.
    let batch_size = any_limit(u)?.max(1).saturating_mul(multiple_of as u64);
    let limits = Limits { batch_size, max_tokens: any_limit(u)?, max_tiles: any_limit(u)? };
    let rules = Rules {
        limits,
        multiple_of,
        shuffle: u.arbitrary()?,
        window: maybe(u, |u| Ok(any_size(u)?.max(1)))?,
        drop_last: u.arbitrary()?,
        world_size: seldom(u, 1, |u| Ok(any_size(u)?.clamp(1, 1 << 31)))?,
        steps: if u.ratio(1, 4)? { Some(any_size(u)?.min(1 << 31)) } else { None },
    };
    let pairs = Pairs::new(&lengths, rows, tiles.clone(), grids, limits);
    assert_eq!(pairs.usable().len() + pairs.refused().len(), count);
    for (_, refusal) in pairs.refused() {
        assert!(!refusal.to_string().is_empty());
    }
    let (seed, epoch) = (u.arbitrary()?, u.arbitrary()?);
    let found = plan(&pairs, &rules, seed, epoch);
    check(&pairs, &rules, &tiles, &found);
    assert_eq!(found, plan(&pairs, &rules, seed, epoch), "it depends on nothing else");
    Ok(())
}

fn check(pairs: &Pairs, rules: &Rules, tiles: &[u32], plan: &Plan) {
    let Plan { order, bounds, costs } = plan;
    assert!(bounds.first() == Some(&0) && bounds.last() == Some(&order.len()) && bounds.len() == costs.len() + 1);
    assert!(costs.len().is_multiple_of(rules.world_size));
    if let Some(steps) = rules.steps {
        assert!(costs.len() <= steps * rules.world_size);
    }
    for (bounds, &cost) in bounds.windows(2).zip(costs) {
        let batch = &order[bounds[0]..bounds[1]];
        let tiles: u64 = batch.iter().map(|&pair| tiles.get(pair as usize).map_or(0, |&tiles| u64::from(tiles))).sum();
        assert!(!batch.is_empty() && batch.len() as u64 <= rules.limits.batch_size);
        assert!(cost == pairs.cost(batch) && cost <= rules.limits.max_tokens && tiles <= rules.limits.max_tiles);
    }
    let mut once = order.clone();
    once.sort_unstable();
    once.dedup();
    assert!(once.len() == order.len() && once.iter().all(|pair| pairs.usable().binary_search(pair).is_ok()));
    if rules.world_size == 1 && rules.steps.is_none() && !rules.drop_last {
        assert_eq!(once.len(), pairs.usable().len(), "every pair comes");
    }
}

fn any_tokens(u: &mut Bytes<'_>) -> Result<u32> {
    seldom(u, 0, |u| Ok(u32::try_from(any_size(u)?).unwrap_or(u32::MAX)))
        .and_then(|tokens| if tokens == 0 { u.int_in_range(0..=60) } else { Ok(tokens) })
}

/// Mostly one that matters.
fn any_limit(u: &mut Bytes<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=3_u8)? {
        0 => u64::MAX,
        1 => u.int_in_range(1..=12)?,
        2 => u.int_in_range(20..=2000)?,
        _ => any_size(u)? as u64,
    })
}

fn any_grid(u: &mut Bytes<'_>, rows: usize) -> Result<Grid> {
    Ok(Grid {
        rows: several(u, 1..=4, |u| u.int_in_range(0..=rows - 1))?,
        length: any_length(u, any_size)?,
        flat: u.arbitrary()?,
        drop_last: seldom(u, 0, any_size)?,
    })
}
