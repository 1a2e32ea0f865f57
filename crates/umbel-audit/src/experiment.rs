//! The experiment file against the plan in the ledger's header.
//!
//! The file is read as plain TOML by the names that are documented, not with the program's own reader: a fault there does not
//! hide here.

use toml::{Table, Value};
use umbel_accounting::DpEvent;
use umbel_accounting::ledger::Header;

/// Every setting of the experiment file that does not fit `header`, in words.
pub(crate) fn deviations(text: &str, header: &Header) -> Result<Vec<String>, String> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| format!("expected TOML: {}", error.message()))?;
    let mut compare = Compare {
        table: &table,
        found: Vec::new(),
    };
    compare.text("name", &header.run);
    compare.number("federation.rounds", whole(header.rounds));
    compare.number("federation.cohort", header.cohort);
    compare.number(
        "federation.clients",
        whole(header.clients.unwrap_or(header.population)),
    );
    compare.text("privacy.unit", &header.unit);
    compare.text("privacy.trust", &header.trust);
    compare.number("privacy.delta", header.delta);
    compare.text("privacy.accountant", &header.accountant);
    compare.number("privacy.clip_norm", header.clip_norm);
    let no_noise = table
        .get("privacy")
        .and_then(|privacy| privacy.get("dangerous_no_noise"));
    if no_noise.and_then(Value::as_bool) == Some(true) {
        compare.same(
            "privacy.dangerous_no_noise",
            "noise none",
            &header.noise,
            header.noise == "none",
        );
    } else {
        compare.text("privacy.noise", &header.noise);
    }
    let budget = header.epsilon_budget.unwrap_or(f64::INFINITY);
    compare.number("privacy.epsilon", budget);
    compare.number("privacy.max_epsilon", budget);
    if let Some(noise) = noise_multiplier(&header.round_event) {
        compare.number("privacy.noise_multiplier", noise);
    }
    // A seed says nothing: a served run has one too, for its initial model.
    Ok(compare.found)
}

/// Settings that are there must have the header's value; those that are not follow from others.
struct Compare<'a> {
    table: &'a Table,
    found: Vec<String>,
}

impl Compare<'_> {
    fn setting(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let first = self.table.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    fn number(&mut self, key: &str, planned: f64) {
        let number = match self.setting(key) {
            Some(Value::Float(number)) => *number,
            #[allow(clippy::cast_precision_loss, reason = "no such setting is near 2^53")]
            Some(Value::Integer(number)) => *number as f64,
            // A table, as of an adaptive clip norm, is compared by what follows from it.
            _ => return,
        };
        let same = number.to_bits() == planned.to_bits();
        self.same(key, &number.to_string(), &planned.to_string(), same);
    }

    fn text(&mut self, key: &str, planned: &str) {
        if let Some(Value::String(text)) = self.setting(key) {
            let (text, same) = (format!("\"{text}\""), text == planned);
            self.same(key, &text, planned, same);
        }
    }

    fn same(&mut self, key: &str, setting: &str, planned: &str, same: bool) {
        if !same {
            self.found.push(format!(
                "`{key}` is {setting}, and the ledger's header says {planned}"
            ));
        }
    }
}

/// σ / C of an event that is one Gaussian release, sampled or not.
pub(crate) fn noise_multiplier(event: &DpEvent) -> Option<f64> {
    match event {
        DpEvent::Gaussian { noise_multiplier } => Some(noise_multiplier.value()),
        DpEvent::PoissonSampled { event, .. } => noise_multiplier(event),
        _ => None,
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn whole(count: u64) -> f64 {
    count as f64
}
