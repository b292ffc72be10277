//! Random numbers whose values never change: a plan of 2026 is to be resumed by whatever version comes.
//!
//! The generator is `SplitMix64` (Steele, Lea and Flood, 2014), with bounded numbers after Lemire (2019).

/// A generator of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The generator of one epoch.
    #[must_use]
    pub fn new(seed: u64, epoch: u64) -> Self {
        // Each is mixed on its own, so that no two epochs of any seeds share a stretch of numbers but by chance.
        Self { state: mix(mix(seed.wrapping_add(STEP)) ^ epoch.wrapping_mul(STEP)) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number from 0 to `bound` - 1, each as likely as any other; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            let low = product & u128::from(u64::MAX);
            // Of the 2**64 numbers that were possible, the first (2**64 mod bound) would be one too many.
            if bound == 0 || low >= u128::from(bound.wrapping_neg() % bound) {
                return usize::try_from(product >> 64).unwrap_or_default();
            }
        }
    }

    /// Puts what there is into an order, each as likely as any other.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}

/// What 64 bits become: any change of one changes about half of them.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
