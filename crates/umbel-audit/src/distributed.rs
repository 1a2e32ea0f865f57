//! The cost of the clients' own mechanism again, from the terms that a ledger's header holds.

use umbel_accounting::ledger::Header;
use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier};
use umbel_mechanisms::{DistributedGaussian, DistributedTerms};

/// The mechanism of a header with trust `distributed`.
pub(crate) fn mechanism(header: &Header) -> Result<DistributedGaussian, String> {
    let facts = header.secure_aggregation.as_ref();
    let facts = facts.ok_or("expected `secure_aggregation`, since `trust` is distributed")?;
    let noise = facts.noise_multiplier;
    let noise = noise.ok_or("expected `secure_aggregation.noise_multiplier`, since clients add the noise")?;
    let count = |number: u64| u32::try_from(number).map_err(|_| format!("{number} is no number of clients"));
    let terms = DistributedTerms {
        clip_norm: ClipNorm::new(header.clip_norm).map_err(|error| error.to_string())?,
        noise_multiplier: NoiseMultiplier::new(noise).map_err(|error| error.to_string())?,
        dimension: usize::try_from(header.dimension).map_err(|error| error.to_string())?,
        divisor: header.cohort,
        clients_max: count(facts.clients_max)?,
        survivors_min: count(facts.survivors_min)?,
        colluding: count(facts.colluding)?,
        modulus_bits: facts.modulus_bits,
        most_participations: header.most_charges.unwrap_or(header.rounds),
    };
    DistributedGaussian::new(terms).map_err(|error| error.to_string())
}

/// Whether a recorded cost is the one that the terms give, but for rounding.
pub(crate) fn same_cost(what: &str, expected: &DpEvent, got: &DpEvent) -> Result<(), String> {
    match (expected, got) {
        (DpEvent::ZeroConcentrated { rho: expected }, DpEvent::ZeroConcentrated { rho })
            if (rho.value() / expected.value() - 1.0).abs() < 1e-9 =>
        {
            Ok(())
        }
        _ => Err(format!(
            "`{what}` is not what the terms of secure aggregation give: expected {expected:?}, got {got:?}"
        )),
    }
}
