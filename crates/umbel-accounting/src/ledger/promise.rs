//! Whether records keep to the plan that the header fixed.

use super::record::{Body, Charge, Claim, Header};
use super::to_hex;
use crate::DpEvent;

/// What was promised, and what was claimed last.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    header: Box<Header>,
    /// The claim of the last charge.
    claim: Option<Claim>,
    /// Rounds charged.
    charged: u64,
}

impl Promise {
    /// Takes the next record: a header makes the promise, every other record must keep it. On an error nothing has changed.
    pub(super) fn follow(promise: &mut Option<Self>, body: &Body) -> Result<(), String> {
        match (promise, body) {
            (promise @ None, Body::Header(header)) => {
                check_header(header)?;
                *promise = Some(Self {
                    header: header.clone(),
                    claim: None,
                    charged: 0,
                });
                Ok(())
            }
            (Some(promise), body) => promise.check(body),
            // The order of records says what is wrong with this.
            (None, _) => Ok(()),
        }
    }

    /// Checks the next record against the header: every round costs what was planned, with the planned noise on the planned clip
    /// norm, divided by the planned cohort; there are no more rounds than planned; claims stand at the planned δ and never fall,
    /// and the end claims what the last charge did.
    fn check(&mut self, body: &Body) -> Result<(), String> {
        let header = &self.header;
        match body {
            Body::Reserve(reserve) => {
                same("event", &header.round_event, &reserve.event)?;
                if reserve.round > header.rounds {
                    let (planned, got) = (header.rounds, reserve.round);
                    return Err(format!("expected at most {planned} rounds, got round {got}"));
                }
                Ok(())
            }
            Body::Charge(charge) => {
                check_round(header, charge)?;
                self.check_terms(&charge.claim)?;
                let before = self.claim.as_ref().map_or(0.0, epsilon);
                if epsilon(&charge.claim) < before {
                    let now = epsilon(&charge.claim);
                    return Err(format!(
                        "expected a claim of at least {before}, as before, got {now}"
                    ));
                }
                if let Some(limit) = header
                    .epsilon_budget
                    .filter(|limit| epsilon(&charge.claim) > *limit)
                {
                    let now = epsilon(&charge.claim);
                    return Err(format!(
                        "expected a claim within the budget of {limit}, got {now}"
                    ));
                }
                self.claim = Some(charge.claim.clone());
                self.charged += 1;
                Ok(())
            }
            Body::Close(close) => {
                self.check_terms(&close.claim)?;
                let charged = self.claim.as_ref().map_or(0.0, epsilon);
                if epsilon(&close.claim).total_cmp(&charged).is_ne() {
                    let got = epsilon(&close.claim);
                    return Err(format!("expected a claim of {charged}, as charged, got {got}"));
                }
                if close.rounds > self.charged {
                    let (charged, got) = (self.charged, close.rounds);
                    return Err(format!(
                        "expected at most {charged} rounds, as charged, got {got}"
                    ));
                }
                Ok(())
            }
            Body::Header(_) | Body::Release(_) | Body::Resume(_) | Body::Void(_) => Ok(()),
        }
    }

    fn check_terms(&self, claim: &Claim) -> Result<(), String> {
        if claim.delta.to_bits() != self.header.delta.to_bits() || claim.accountant != self.header.accountant
        {
            return Err(format!(
                "expected a claim at delta {} by {}, got one at {} by {}",
                self.header.delta, self.header.accountant, claim.delta, claim.accountant
            ));
        }
        Ok(())
    }
}

/// What a header says must fit together.
fn check_header(header: &Header) -> Result<(), String> {
    let digest = to_hex(&header.plan_digest()?);
    if header.plan_sha256 != digest {
        let got = &header.plan_sha256;
        return Err(format!(
            "expected `plan_sha256` to be {digest}, the hash of the plan, got {got}"
        ));
    }
    if let Some(filter) = &header.filter {
        return Err(format!(
            "expected `filter` to be null: this version knows no filter `{filter}`"
        ));
    }
    let in_range = header.accounted_delta > 0.0 && header.accounted_delta <= header.delta;
    if !in_range {
        let (delta, got) = (header.delta, header.accounted_delta);
        return Err(format!(
            "expected `accounted_delta` above 0 and at most `delta`, {delta}, got {got}"
        ));
    }
    if let Some(facts) = &header.secure_aggregation {
        let honest = facts.survivors_min.saturating_sub(facts.colluding);
        if honest == 0
            || facts.survivors_min > facts.clients_max
            || header.neighbors == "add-remove" && header.unit == "client"
        {
            return Err(
                "expected `secure_aggregation` with somebody honest among the fewest survivors, and a relation that does not \
                 protect who takes part"
                    .to_owned(),
            );
        }
    }
    if header.trust == "distributed" && header.secure_aggregation.is_none() {
        return Err("expected `secure_aggregation`, since `trust` is distributed".to_owned());
    }
    if header.noise == "none" && header.round_event != DpEvent::NonPrivate {
        return Err("expected a `non-private` event, since `noise` is none".to_owned());
    }
    check_sampling(header)
}

/// Amplification is claimed only for the sampling that the header says, at its rate.
fn check_sampling(header: &Header) -> Result<(), String> {
    if header.unit == "example" {
        // Amplified by coins that each client tosses over its own examples, not by the cohorts here.
        return Ok(());
    }
    // With secure aggregation rounds close on a count, so nothing may be gained from secret coins.
    if header.sampling != "poisson" || header.trust != "central" || header.secure_aggregation.is_some() {
        let vouched = header.matrix.as_ref().is_some_and(|matrix| matrix.amplified);
        return if is_sampled(&header.round_event) && !vouched {
            let sampling = &header.sampling;
            Err(format!(
                "expected an event without amplification, since `sampling` is {sampling} and `trust` is {}",
                header.trust
            ))
        } else {
            Ok(())
        };
    }
    match &header.round_event {
        DpEvent::NonPrivate => {}
        DpEvent::PoissonSampled { sampling_rate, .. }
            if sampling_rate.value().to_bits() == header.sampling_rate.to_bits() => {}
        _ => {
            let rate = header.sampling_rate;
            return Err(format!(
                "expected `round_event` to be sampled at the rate {rate} of `sampling_rate`, as `sampling` says"
            ));
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "populations are far below 2^53")]
    let rate = header.cohort / header.population as f64;
    let agrees = (rate - header.sampling_rate).abs() <= 1e-12 * rate;
    if !agrees {
        let got = header.sampling_rate;
        return Err(format!(
            "expected `sampling_rate` to be `cohort` / `population` = {rate}, got {got}"
        ));
    }
    Ok(())
}

/// Whether the cost of an event counts on a secret sample.
fn is_sampled(event: &DpEvent) -> bool {
    match event {
        DpEvent::FixedSizeSampled { .. }
        | DpEvent::PoissonSampled { .. }
        | DpEvent::TruncatedPoissonSampled { .. } => true,
        DpEvent::Composed(events) => events.iter().any(is_sampled),
        DpEvent::Repeated { event, .. } => is_sampled(event),
        _ => false,
    }
}

/// What was run in a round against what was planned.
fn check_round(header: &Header, charge: &Charge) -> Result<(), String> {
    same("event", &header.round_event, &charge.event)?;
    same_number("divisor", header.cohort, charge.divisor)?;
    check_clip_norm(header, charge)?;
    check_survivors(header, charge)?;
    // Where the server adds no noise, there is none of it to compare.
    let Some(planned) = gaussian_noise(&charge.event).filter(|_| header.trust == "central") else {
        return Ok(());
    };
    // The grid is in proportion to the clip norm, also where that moves.
    let run = charge.noise_std_dev_grid_units * header.grid_unit / header.clip_norm;
    // Grid and clip norm are exact numbers; their quotients are rounded.
    let enough = run >= planned * (1.0 - 1e-12);
    if enough {
        Ok(())
    } else {
        Err(format!(
            "`noise_std_dev_grid_units` is not what the header promises: expected a noise multiplier of {planned}, got {run}"
        ))
    }
}

/// A sum of secure aggregation has as many clients as was promised, or it is not opened.
fn check_survivors(header: &Header, charge: &Charge) -> Result<(), String> {
    match (&header.secure_aggregation, &charge.survivors) {
        (None, None) => Ok(()),
        (Some(facts), Some(survivors))
            if (facts.survivors_min..=facts.clients_max).contains(&survivors.clients) =>
        {
            Ok(())
        }
        (Some(facts), got) => Err(format!(
            "`survivors` is not what the header promises: expected between {} and {} clients, got {}",
            facts.survivors_min,
            facts.clients_max,
            got.as_ref()
                .map_or_else(|| "none".to_owned(), |got| got.clients.to_string())
        )),
        (None, Some(_)) => {
            Err("`survivors` is not what the header promises: there is no secure aggregation".to_owned())
        }
    }
}

/// The clip norm is the planned one, or where it may move within the planned bounds.
fn check_clip_norm(header: &Header, charge: &Charge) -> Result<(), String> {
    match (&header.adaptive_clip, charge.clip_norm) {
        (None, None) => Ok(()),
        (Some(rule), Some(clip_norm)) if (rule.smallest..=rule.largest).contains(&clip_norm) => Ok(()),
        (Some(rule), got) => Err(format!(
            "`clip_norm` is not what the header promises: expected one between {} and {}, got {got:?}",
            rule.smallest, rule.largest
        )),
        (None, Some(got)) => Err(format!(
            "`clip_norm` is not what the header promises: expected {} in every round, got {got}",
            header.clip_norm
        )),
    }
}

/// The noise multiplier of an event that is one Gaussian release.
fn gaussian_noise(event: &DpEvent) -> Option<f64> {
    match event {
        DpEvent::Gaussian { noise_multiplier } => Some(noise_multiplier.value()),
        DpEvent::PoissonSampled { event, .. } => gaussian_noise(event),
        _ => None,
    }
}

fn same(what: &str, planned: &DpEvent, got: &DpEvent) -> Result<(), String> {
    if planned == got {
        Ok(())
    } else {
        Err(format!(
            "`{what}` is not what the header promises: expected {planned:?}, got {got:?}"
        ))
    }
}

fn same_number(what: &str, planned: f64, got: f64) -> Result<(), String> {
    if planned.to_bits() == got.to_bits() {
        Ok(())
    } else {
        Err(format!(
            "`{what}` is not what the header promises: expected {planned}, got {got}"
        ))
    }
}

fn epsilon(claim: &Claim) -> f64 {
    claim.epsilon.unwrap_or(f64::INFINITY)
}
