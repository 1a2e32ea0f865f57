//! Exact rejection sampling from a table of strips, shared by the rounded Gaussian, the discrete Gaussian and Skellam.
//!
//! Described for a density proportional to exp(−x²/2). A strip may also be a single point of a law on the integers; then
//! u = γ = 0, and the height exp(−(k·w)²/2) may be that of any log-concave law ([`Law`]).
//!
//! **Proposal.** The half-line is cut into strips [k·w, (k + 1)·w), w rational. One of 2^13 equally likely cells names a
//! strip; strip k owns `W_k ≥ c·exp(−(k·w)²/2)` cells (Marsaglia's table method). A position in the strip is
//! x = (k + u)·w with u uniform on [0, 1), either real (its binary digits drawn as needed) or a fraction j / 2^m.
//! **Acceptance.** With probability `p_k·exp(−γ)`, where `p_k = c·exp(−(k·w)²/2) / W_k ≤ 1` and
//! γ = (x² − (k·w)²)/2 = g_k · u · (2k + u)/(2k + 2), g_k = (k + 1)·w². Then the density of what is accepted is
//! proportional to exp(−x²/2), whatever the weights.
//! **Decision.** A uniform V accepts below `a_k = p_k·(1 − g_k)`, rejects from `p_k` on, and between the two accepts as the
//! method of Canonne, Kamath and Steinke (2020, algorithm 1) does for exp(−γ) once its first coin, of probability g_k, has
//! come up: so exp(−γ) is never computed. Eight bits of V decide nearly always, 64 more are compared with rounded-down
//! thresholds, and when even these do not decide, both V and the thresholds get as many digits as it takes.
//! **Tail.** One group of cells stands for all strips from K on, x ≥ about 4: a geometric number of blocks of strips, each
//! half as likely as the one before, while the density falls by more than half from block to block.
//!
//! All of this is integer arithmetic, so the law is exact given uniform bits, but for one cut: strips from
//! `n_strips` on are left out. They begin at 32 standard deviations, or, where strips are narrower than 1/32, at 16 or
//! more; [`CUT_PROBABILITY`] bounds their mass.

use rand_core::Rng;

use crate::fixed_point::{Enclosure, Fixed, exp_minus_half_square, halves};
use crate::skellam::SkellamHeights;

/// More than the mass beyond 16 standard deviations (1.3e-57 of the normal law, to within a factor of 2 of a discrete one).
pub(crate) const CUT_PROBABILITY: f64 = 1e-56;

/// Bits of a random word that [`Strips::propose`] uses; the rest is the position in the strip.
pub(crate) const PROPOSAL_BITS: u32 = CELL_BITS + 1 + QUICK_BITS;
/// Bits of a random word that are left for the position in the strip.
pub(crate) const OFFSET_BITS: u32 = 64 - PROPOSAL_BITS;

const CELL_BITS: u32 = 13;
const QUICK_BITS: u32 = 8;
const N_CELLS: usize = 1 << CELL_BITS;
/// At most this many strips before the tail, which takes one more number of 8 bits.
const MAX_BODY_STRIPS: u64 = 255;
/// Coins of probability (k + 1) / 2^10 are drawn.
const MAX_STRIPS: u64 = 1 << 10;
/// The scale c is a multiple of 1/64.
const SCALE_DENOMINATOR: u64 = 64;
/// Limbs of the numbers from which the table is made; more are taken where these do not suffice.
const TABLE_LIMBS: usize = 4;

/// The position u in a strip.
pub(crate) trait Offset {
    /// A fresh coin with probability u, and u still the same number after it.
    fn flip(&mut self, stream: &mut impl Rng) -> bool;
}

/// The only position in a point.
struct NoOffset;

impl Offset for NoOffset {
    fn flip(&mut self, _: &mut impl Rng) -> bool {
        false
    }
}

/// What is sampled, and what a strip of it is. A point 0 has half its weight, because it has no sign to choose.
#[derive(Debug, Clone)]
pub(crate) enum Law {
    /// exp(−x²/2) on multiples x of numerator / denominator, at least 0: u is always 0.
    GaussianPoints {
        /// Both numbers are positive and below 2^62, their quotient is above 1/64 and at most 16.
        numerator: u64,
        /// See `numerator`.
        denominator: u64,
    },
    /// exp(−x²/2) on x ≥ 0, in strips of width numerator / denominator.
    GaussianIntervals {
        /// Both numbers are positive and below 2^62, their quotient is above 1/64 and at most 1/32.
        numerator: u64,
        /// See `numerator`.
        denominator: u64,
    },
    /// The Skellam distribution on 0, 1, 2, …: u is always 0.
    SkellamPoints(SkellamHeights),
}

/// The table for one law.
#[derive(Debug, Clone)]
pub(crate) struct Strips {
    law: Law,
    cells: Box<[u8; N_CELLS]>,
    /// V is below a_k for certain if its first 8 bits are below this.
    quick: [u8; 256],
    /// `floor(2^64 a_k)`, `floor(2^64 p_k)` or one less: body and near tail.
    thresholds: Vec<(u64, u64)>,
    /// c, in 64ths.
    scale: u64,
    /// W_k of the body, then the tail's.
    weights: Vec<u64>,
    /// Strips a block of the tail, a power of two.
    block: u64,
    n_strips: u64,
}

/// What one word proposes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proposal {
    strip: u8,
    pub(crate) is_negative: bool,
    quick: u8,
    /// Uniform, below 2^[`OFFSET_BITS`].
    pub(crate) offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    FlipCoins,
    Reject,
}

impl Strips {
    /// A table for one law.
    pub(crate) fn new(law: Law) -> Self {
        let (n_body, block, n_strips) = match &law {
            Law::GaussianPoints {
                numerator,
                denominator,
            }
            | Law::GaussianIntervals {
                numerator,
                denominator,
            } => gaussian_layout(*numerator, *denominator),
            Law::SkellamPoints(heights) => heights.layout(),
        };
        assert!(
            n_body <= MAX_BODY_STRIPS && n_strips <= MAX_STRIPS,
            "more strips than a table has room for"
        );
        let mut strips = Self {
            law,
            cells: Box::new([0; N_CELLS]),
            quick: [0; 256],
            thresholds: Vec::new(),
            scale: 0,
            weights: vec![0; usize::try_from(n_body).expect("at most 255") + 1],
            block,
            n_strips,
        };
        strips.choose_weights();
        strips.fill_tables();
        strips
    }

    /// What a uniform word proposes.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "takes fields of bits out of the word"
    )]
    pub(crate) fn propose(&self, word: u64) -> Proposal {
        Proposal {
            strip: self.cells[(word as usize) & (N_CELLS - 1)],
            is_negative: word & (1 << CELL_BITS) != 0,
            quick: (word >> (CELL_BITS + 1)) as u8,
            offset: word >> PROPOSAL_BITS,
        }
    }

    /// The strip, if these bits decide that the proposal is accepted, as 19 times in 20.
    #[inline]
    pub(crate) fn accept_quickly(&self, proposal: Proposal) -> Option<u64> {
        (proposal.quick < self.quick[usize::from(proposal.strip)]).then_some(u64::from(proposal.strip))
    }

    /// The strip if the proposal is accepted, for proposals that were not accepted quickly.
    #[cold]
    pub(crate) fn accept_slowly(
        &self,
        proposal: Proposal,
        offset: &mut impl Offset,
        stream: &mut impl Rng,
    ) -> Option<u64> {
        let n_body = self.n_body();
        let mut strip = u64::from(proposal.strip);
        let mut uniform = stream.next_u64();
        if strip < n_body {
            uniform = (uniform >> QUICK_BITS) | (u64::from(proposal.quick) << (64 - QUICK_BITS));
        } else {
            strip = n_body + self.block * geometric(stream) + (stream.next_u64() & (self.block - 1));
            if strip >= self.n_strips {
                return None;
            }
        }
        let accepted = match self.judge(strip, uniform, stream) {
            Verdict::Accept => true,
            Verdict::FlipCoins => self.flip_coins(strip, offset, stream),
            Verdict::Reject => false,
        };
        accepted.then_some(strip)
    }

    /// A draw with its sign, for laws on points.
    #[inline]
    pub(crate) fn sample_point(&self, stream: &mut impl Rng) -> i64 {
        loop {
            let proposal = self.propose(stream.next_u64());
            let strip = self
                .accept_quickly(proposal)
                .or_else(|| self.accept_slowly(proposal, &mut NoOffset, stream));
            if let Some(strip) = strip {
                let magnitude = i64::try_from(strip).expect("at most 2^10");
                return if proposal.is_negative {
                    -magnitude
                } else {
                    magnitude
                };
            }
        }
    }

    /// Strips that can be drawn: all below this number.
    #[cfg(test)]
    pub(crate) fn n_strips(&self) -> u64 {
        self.n_strips
    }

    fn n_body(&self) -> u64 {
        self.weights.len() as u64 - 1
    }

    /// Compares V, of which 64 bits are given, with a_k and p_k.
    fn judge(&self, strip: u64, uniform: u64, stream: &mut impl Rng) -> Verdict {
        let near = usize::try_from(strip)
            .ok()
            .and_then(|strip| self.thresholds.get(strip));
        if let Some(&(accept, limit)) = near {
            // A threshold lies in [t, t + 2) units of 2^-64.
            if uniform < accept {
                return Verdict::Accept;
            }
            if uniform > accept.saturating_add(1) {
                if uniform < limit {
                    return Verdict::FlipCoins;
                }
                if uniform > limit.saturating_add(1) {
                    return Verdict::Reject;
                }
            }
        }
        self.judge_exactly(strip, uniform, stream)
    }

    #[cold]
    fn judge_exactly(&self, strip: u64, uniform: u64, stream: &mut impl Rng) -> Verdict {
        let mut digits = vec![uniform];
        for n_limbs in (4..=16).step_by(4) {
            digits.resize_with(n_limbs, || stream.next_u64());
            let low = Fixed::from_digits(&digits);
            let high = low.clone().add_units(1);
            let (accept, limit) = self.exact_thresholds(strip, n_limbs);
            if high <= accept.low {
                return Verdict::Accept;
            }
            if low >= accept.high && high <= limit.low {
                return Verdict::FlipCoins;
            }
            if low >= limit.high {
                return Verdict::Reject;
            }
        }
        // Reached with a probability below 2^-850: part of what the cut accounts for.
        Verdict::Reject
    }

    /// A coin of probability exp(−γ), given that the first of its coins of probability g_k has come up.
    fn flip_coins(&self, strip: u64, offset: &mut impl Offset, stream: &mut impl Rng) -> bool {
        if !self.flip_position(strip, offset, stream) {
            return true;
        }
        let mut n = 2;
        while uniform_below(n, stream) == 0
            && self.flip_width(strip, stream)
            && self.flip_position(strip, offset, stream)
        {
            n += 1;
        }
        n % 2 == 1
    }

    /// A coin of probability u · (2k + u) / (2k + 2) = γ / g_k.
    fn flip_position(&self, strip: u64, offset: &mut impl Offset, stream: &mut impl Rng) -> bool {
        if !offset.flip(stream) {
            return false;
        }
        match uniform_below(2 * strip + 2, stream) {
            part if part < 2 * strip => true,
            part if part == 2 * strip => offset.flip(stream),
            _ => false,
        }
    }

    /// A coin of probability g_k = (k + 1)·w² = (k + 1)/2^10 · (32 w)².
    fn flip_width(&self, strip: u64, stream: &mut impl Rng) -> bool {
        let Law::GaussianIntervals {
            numerator,
            denominator,
        } = self.law
        else {
            return false;
        };
        let mut flip = || uniform_below(denominator, stream) < 32 * numerator;
        flip() && flip() && uniform_below(MAX_STRIPS, stream) <= strip
    }

    /// Finds the largest scale c whose weights fit into the cells. What is left over goes to the first strip.
    fn choose_weights(&mut self) {
        let n_body = self.n_body();
        let heights: Vec<u64> = (0..=n_body)
            .map(|strip| self.height(strip, TABLE_LIMBS).high.leading_64_bits())
            .collect();
        let weights = |scale: u64| -> Vec<u64> {
            (0_u64..)
                .zip(&heights)
                .map(|(strip, &height)| {
                    let factor = if strip == n_body {
                        scale * 2 * self.block
                    } else {
                        scale
                    };
                    // The height is below (bits + 1) / 2^64.
                    let bound = u128::from(factor) * (u128::from(height) + 1);
                    let weight = bound.div_ceil(u128::from(SCALE_DENOMINATOR) << 64);
                    u64::try_from(weight)
                        .expect("a weight is not much above its scale")
                        .max(1)
                })
                .collect()
        };
        let fits = |scale: u64| weights(scale).iter().sum::<u64>() <= N_CELLS as u64;
        // The first strip alone takes c / 2 cells or more.
        let (mut low, mut high) = (1, 4 * SCALE_DENOMINATOR * N_CELLS as u64);
        assert!(fits(low), "more strips than cells");
        while high - low > 1 {
            let middle = low.midpoint(high);
            if fits(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.scale = low;
        self.weights = weights(low);
        self.weights[0] += N_CELLS as u64 - self.weights.iter().sum::<u64>();
    }

    fn fill_tables(&mut self) {
        let mut cell = 0;
        for (strip, &weight) in (0_u8..=255).zip(&self.weights) {
            let end = cell + usize::try_from(weight).expect("at most the number of cells");
            self.cells[cell..end].fill(strip);
            cell = end;
        }
        // Thresholds up to about 8 standard deviations, or to 64 strips; those beyond are computed when needed, hardly ever.
        let n_near = (2 * self.n_body()).max(64).min(self.n_strips);
        self.thresholds = (0..n_near).map(|strip| self.near_thresholds(strip)).collect();
        for (strip, quick) in self.quick.iter_mut().enumerate().take(self.weights.len() - 1) {
            *quick = u8::try_from(self.thresholds[strip].0 >> (64 - QUICK_BITS)).expect("8 bits are left");
        }
    }

    fn near_thresholds(&self, strip: u64) -> (u64, u64) {
        let mut n_limbs = TABLE_LIMBS;
        loop {
            let (accept, limit) = self.exact_thresholds(strip, n_limbs);
            let is_narrow = |bounds: &Enclosure| {
                bounds
                    .high
                    .clone()
                    .saturating_subtract(&bounds.low)
                    .shift_left(65)
                    <= Fixed::one(n_limbs)
            };
            if is_narrow(&accept) && is_narrow(&limit) {
                return (accept.low.leading_64_bits(), limit.low.leading_64_bits());
            }
            n_limbs += 1;
        }
    }

    /// Bounds on the largest value of the density in a strip, up to a constant; on half of it for the point 0.
    fn height(&self, strip: u64, n_limbs: usize) -> Enclosure {
        match &self.law {
            Law::GaussianIntervals {
                numerator,
                denominator,
            } => exp_minus_half_square(strip, *numerator, *denominator, n_limbs),
            _ if strip == 0 => {
                let half = Fixed::one(n_limbs).divide(2);
                Enclosure {
                    low: half.clone(),
                    high: half,
                }
            }
            Law::GaussianPoints {
                numerator,
                denominator,
            } => exp_minus_half_square(strip, *numerator, *denominator, n_limbs),
            Law::SkellamPoints(heights) => heights.height(strip, n_limbs),
        }
    }

    /// Bounds on a_k and p_k.
    fn exact_thresholds(&self, strip: u64, n_limbs: usize) -> (Enclosure, Enclosure) {
        let n_body = self.n_body();
        let Enclosure { mut low, mut high } = self.height(strip, n_limbs);
        let weight = if strip < n_body {
            self.weights[usize::try_from(strip).expect("at most 255")]
        } else {
            // In block m a cell of the tail stands for 2^-(m + 1) / block of a strip.
            let n_bits = u32::try_from((strip - n_body) / self.block + 1).expect("at most 2^10 blocks");
            low = low.shift_left(n_bits).multiply(self.block);
            high = high.shift_left(n_bits).multiply(self.block);
            self.weights[self.weights.len() - 1]
        };
        let divisor = SCALE_DENOMINATOR * weight;
        low = low.multiply(self.scale).divide(divisor);
        high = high.multiply(self.scale).divide(divisor).add_units(1);
        let limit = Enclosure { low, high };
        let Law::GaussianIntervals {
            numerator: n,
            denominator: d,
        } = self.law
        else {
            return (limit.clone(), limit);
        };
        // a = p − p·g, and p·g rounded down is at most one unit too small.
        let part = |value: &Fixed| {
            value
                .clone()
                .multiply(strip + 1)
                .multiply(n)
                .multiply(n)
                .divide(d)
                .divide(d)
        };
        let accept = Enclosure {
            low: limit
                .low
                .clone()
                .saturating_subtract(&part(&limit.low).add_units(1)),
            high: limit.high.clone().saturating_subtract(&part(&limit.high)),
        };
        (accept, limit)
    }
}

/// Strips of the body, strips in a block of the tail, and strips in all, for strips of width w = numerator / denominator.
fn gaussian_layout(numerator: u64, denominator: u64) -> (u64, u64, u64) {
    assert!((1..1 << 62).contains(&numerator) && (1..1 << 62).contains(&denominator));
    let (n, d) = (u128::from(numerator), u128::from(denominator));
    assert!(64 * n > d && n <= 16 * d, "strip width out of range");
    let ceil = |n_widths: u128| u64::try_from((n_widths * d).div_ceil(n)).expect("at most 2^11 strips");
    // The body reaches to four standard deviations, or just short of that if strips are narrowest.
    let n_body = ceil(4).clamp(1, MAX_BODY_STRIPS);
    // Blocks of at least a quarter of a standard deviation: exp(−x²/2) falls by e^-0.99 or more from one to the next.
    let block = ceil(1).div_ceil(4).next_power_of_two();
    (n_body, block, ceil(32).clamp(n_body + block, MAX_STRIPS))
}

/// The number of heads before the first tails of a fair coin.
fn geometric(stream: &mut impl Rng) -> u64 {
    let mut n_heads = 0;
    loop {
        let word = stream.next_u64();
        n_heads += u64::from(word.trailing_ones());
        if word != u64::MAX {
            return n_heads;
        }
    }
}

/// A uniform integer below `n`, exactly: the multiplication method of Lemire (2019).
pub(crate) fn uniform_below(n: u64, stream: &mut impl Rng) -> u64 {
    loop {
        let product = u128::from(stream.next_u64()) * u128::from(n);
        let (low, high) = halves(product);
        // 2^64 mod n of the 2^64 words are refused, so that each result has the same number of words.
        if low >= n || low >= n.wrapping_neg() % n {
            return high;
        }
    }
}

#[cfg(test)]
impl Strips {
    /// The same law without its tables: every decision is made with as many digits as it takes.
    pub(crate) fn without_shortcuts(&self) -> Self {
        Self {
            quick: [0; 256],
            thresholds: Vec::new(),
            ..self.clone()
        }
    }

    /// A proposal from the tail.
    pub(crate) fn tail_proposal(&self, offset: u64) -> Proposal {
        let strip = u8::try_from(self.n_body()).unwrap();
        Proposal {
            strip,
            is_negative: false,
            quick: 0,
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{RandomStream, SimulationSeed};
    use crate::statistics::check_counts;

    /// Widths of both shapes over the whole range, some of them awkward.
    fn tables() -> Vec<Strips> {
        let points = [
            (16, 1),
            (2, 1),
            (1, 1),
            (10, 27),
            (1, 31),
            (1_000_003, 31_900_001),
        ];
        let intervals = [
            (1, 32),
            (1_000, 63_999),
            (3, 128),
            ((1 << 50) + 1, (1 << 55) + 32_767),
        ];
        let points = points.map(|(numerator, denominator)| {
            Strips::new(Law::GaussianPoints {
                numerator,
                denominator,
            })
        });
        points
            .into_iter()
            .chain(intervals.map(|(numerator, denominator)| {
                Strips::new(Law::GaussianIntervals {
                    numerator,
                    denominator,
                })
            }))
            .collect()
    }

    fn stream(seed: u64) -> RandomStream {
        SimulationSeed::new(seed).stream(crate::source::Purpose::Training, 0, 0)
    }

    fn width(strips: &Strips) -> f64 {
        match &strips.law {
            Law::GaussianPoints {
                numerator,
                denominator,
            }
            | Law::GaussianIntervals {
                numerator,
                denominator,
            } => *numerator as f64 / *denominator as f64,
            Law::SkellamPoints(_) => unreachable!("no Skellam tables here"),
        }
    }

    fn is_intervals(strips: &Strips) -> bool {
        matches!(strips.law, Law::GaussianIntervals { .. })
    }

    fn middle(bounds: &Enclosure) -> f64 {
        bounds.low.leading_64_bits() as f64 / 2.0_f64.powi(64)
    }

    #[test]
    fn every_strip_has_its_share_of_the_cells() {
        for strips in tables() {
            let mut counts = [0_u64; 256];
            strips
                .cells
                .iter()
                .for_each(|&cell| counts[usize::from(cell)] += 1);
            assert_eq!(&counts[..strips.weights.len()], &strips.weights[..]);
            assert_eq!(strips.weights.iter().sum::<u64>(), N_CELLS as u64);
        }
    }

    #[test]
    fn accepted_mass_is_proportional_to_the_gaussian_in_every_strip() {
        // Cells times p_k, in the tail times the probability of block and strip, against c·exp(−(k·w)²/2).
        for strips in tables() {
            let scale = strips.scale as f64 / SCALE_DENOMINATOR as f64;
            for strip in 0..strips.n_strips() {
                let (_, limit) = strips.exact_thresholds(strip, 16);
                assert!(
                    limit.high <= Fixed::one(16).add_units(1 << 40),
                    "strip {strip}: p above 1"
                );
                let share =
                    match strips.weights[..strips.weights.len() - 1].get(usize::try_from(strip).unwrap()) {
                        Some(&weight) => weight as f64,
                        None => {
                            let m = (strip - strips.n_body()) / strips.block;
                            let tail = *strips.weights.last().unwrap() as f64;
                            tail / strips.block as f64 / 2.0_f64.powi(i32::try_from(m).unwrap() + 1)
                        }
                    };
                let half = if strip == 0 && !is_intervals(&strips) {
                    0.5
                } else {
                    1.0
                };
                let expected = scale * half * (-(strip as f64 * width(&strips)).powi(2) / 2.0).exp();
                if expected > 1e-18 * share {
                    let mass = share * middle(&limit);
                    assert!(
                        (mass / expected - 1.0).abs() < 1e-12 + 1e-18 * share / expected,
                        "strip {strip}: {mass} {expected}"
                    );
                }
            }
            assert!((strips.n_strips() - 1) as f64 * width(&strips) >= 15.9);
        }
    }

    #[test]
    fn thresholds_are_those_of_the_method() {
        for strips in tables() {
            for (strip, &(accept, limit)) in (0_u64..).zip(&strips.thresholds) {
                let (exact_accept, exact_limit) = strips.exact_thresholds(strip, 8);
                // The number lies in [t, t + 2) units.
                for (threshold, exact) in [(accept, &exact_accept), (limit, &exact_limit)] {
                    assert!(Fixed::from_digits(&[threshold, 0, 0, 0, 0, 0, 0, 0]) <= exact.low);
                    assert!(
                        threshold >= u64::MAX - 1
                            || exact.high <= Fixed::from_digits(&[threshold + 2, 0, 0, 0, 0, 0, 0, 0])
                    );
                }
                if is_intervals(&strips) {
                    let g = (strip + 1) as f64 * width(&strips).powi(2);
                    let expected = middle(&exact_limit) * (1.0 - g);
                    assert!((middle(&exact_accept) - expected).abs() < 1e-14);
                } else {
                    assert_eq!(accept, limit);
                }
                if strip < strips.n_body() {
                    // A byte decides only if V is below the threshold whatever its other bits are.
                    for quick in 0..=255_u8 {
                        let proposal = Proposal {
                            strip: u8::try_from(strip).unwrap(),
                            is_negative: false,
                            quick,
                            offset: 0,
                        };
                        let accepted = strips.accept_quickly(proposal);
                        let largest = u64::from(quick) << 56 | ((1 << 56) - 1);
                        assert_eq!(
                            accepted,
                            (largest < accept).then_some(strip),
                            "strip {strip}, byte {quick}"
                        );
                    }
                }
            }
            assert_eq!(
                strips.quick[usize::try_from(strips.n_body()).unwrap()],
                0,
                "the tail is never quick"
            );
        }
    }

    #[test]
    fn tables_and_exact_arithmetic_decide_alike() {
        let mut stream = stream(1);
        for strips in tables() {
            let exact = strips.without_shortcuts();
            for strip in 0..strips.thresholds.len() as u64 {
                let (accept, limit) = strips.thresholds[usize::try_from(strip).unwrap()];
                let near = [accept, limit]
                    .into_iter()
                    .flat_map(|t| [t.saturating_sub(1), t, t.saturating_add(1), t.saturating_add(2)]);
                for uniform in near.chain([0, u64::MAX, stream.next_u64(), stream.next_u64()]) {
                    // Both draw the same further digits.
                    let (mut left, mut right) = (self::stream(2), self::stream(2));
                    let verdict = strips.judge(strip, uniform, &mut left);
                    assert_eq!(
                        verdict,
                        exact.judge(strip, uniform, &mut right),
                        "strip {strip}, V {uniform}"
                    );
                }
            }
        }
    }

    #[test]
    fn coins_have_their_probabilities() {
        // γ and exp(−γ) for one position in a strip; chi-square, false-alarm rate 1e-6 each.
        struct Tenths(u64);
        impl Offset for Tenths {
            fn flip(&mut self, stream: &mut impl Rng) -> bool {
                uniform_below(10, stream) < self.0
            }
        }
        let mut stream = stream(3);
        let strips = Strips::new(Law::GaussianIntervals {
            numerator: 1,
            denominator: 40,
        });
        let n = 200_000;
        for (strip, tenths) in [(0, 3), (0, 9), (5, 1), (100, 7), (900, 5)] {
            let (k, u) = (strip as f64, tenths as f64 / 10.0);
            let g = (k + 1.0) / 1_600.0;
            let gamma = u * (2.0 * k + u) / 3_200.0;
            let mut count =
                |mut coin: Box<dyn FnMut(&mut RandomStream) -> bool + '_>, probability: f64, what: &str| {
                    let heads = (0..n).filter(|_| coin(&mut stream)).count() as f64;
                    check_counts(
                        &[heads, f64::from(n) - heads],
                        &[probability, 1.0 - probability],
                        what,
                    );
                };
            count(Box::new(|stream| strips.flip_width(strip, stream)), g, "width");
            count(
                Box::new(|stream| strips.flip_position(strip, &mut Tenths(tenths), stream)),
                gamma / g,
                "position",
            );
            // exp(−γ) = 1 − g + g·(coin after the first has come up)
            let after = ((-gamma).exp() - 1.0 + g) / g;
            count(
                Box::new(|stream| strips.flip_coins(strip, &mut Tenths(tenths), stream)),
                after,
                "exponential",
            );
        }
    }

    #[test]
    fn uniform_and_geometric_numbers_are_what_they_say() {
        let mut stream = stream(4);
        for n in [1_u64, 2, 3, 10, 100] {
            let mut counts = vec![0.0; usize::try_from(n).unwrap()];
            (0..100_000).for_each(|_| counts[usize::try_from(uniform_below(n, &mut stream)).unwrap()] += 1.0);
            if n > 1 {
                check_counts(&counts, &vec![1.0 / n as f64; counts.len()], "uniform");
            }
        }
        // Of every four words three numbers are made; without refusal every third number would come up twice as often.
        let n_thirds = (0..100_000)
            .filter(|_| uniform_below(3 << 62, &mut stream).is_multiple_of(3))
            .count() as f64;
        check_counts(
            &[n_thirds, 1e5 - n_thirds],
            &[1.0 / 3.0, 2.0 / 3.0],
            "large uniform",
        );
        let mut counts = [0.0; 12];
        (0..100_000).for_each(|_| counts[usize::try_from(geometric(&mut stream).min(11)).unwrap()] += 1.0);
        let probabilities: Vec<f64> = (1..=11)
            .map(|n| 2.0_f64.powi(-n))
            .chain([2.0_f64.powi(-11)])
            .collect();
        check_counts(&counts, &probabilities, "geometric");
    }
}
