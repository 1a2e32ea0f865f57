//! Events as JSON, for the ledger. What is written here keeps its meaning for ever.
//!
//! An object with `kind`, the event's name in small letters and hyphens, and the fields of that kind with the meaning and
//! units of [`DpEvent`]; no others. Reals are JSON numbers with a point or an exponent, counts are without.

use serde_json::{Map, Value, json};

use crate::{
    ClipNorm, DpEvent, NoiseMultiplier, NoiseScale, NoiseStdDev, ParamError, Rho, SamplingRate, Sensitivity,
};

/// Encodes an event. The one value without a form is an infinite ρ, which is to be recorded as non-private.
pub(super) fn encode(event: &DpEvent) -> Result<Value, String> {
    Ok(match event {
        DpEvent::Composed(events) => {
            let events: Vec<_> = events.iter().map(encode).collect::<Result<_, _>>()?;
            json!({ "kind": "composed", "events": events })
        }
        DpEvent::DiscreteGaussian {
            clip_norm,
            dimension,
            noise_std_dev,
        } => json!({
            "kind": "discrete-gaussian",
            "clip_norm": clip_norm.value(),
            "dimension": dimension,
            "noise_std_dev": noise_std_dev.value(),
        }),
        DpEvent::DiscreteLaplace {
            clip_norm,
            noise_scale,
        } => json!({
            "kind": "discrete-laplace",
            "clip_norm": clip_norm.value(),
            "noise_scale": noise_scale.value(),
        }),
        DpEvent::FixedSizeSampled {
            event,
            population_size,
            sample_size,
        } => json!({
            "kind": "fixed-size-sampled",
            "event": encode(event)?,
            "population_size": population_size,
            "sample_size": sample_size,
        }),
        DpEvent::Gaussian { noise_multiplier } => {
            json!({ "kind": "gaussian", "noise_multiplier": noise_multiplier.value() })
        }
        DpEvent::Laplace { noise_multiplier } => {
            json!({ "kind": "laplace", "noise_multiplier": noise_multiplier.value() })
        }
        DpEvent::MatrixMechanism {
            noise_multiplier,
            sensitivity,
        } => json!({
            "kind": "matrix-mechanism",
            "noise_multiplier": noise_multiplier.value(),
            "sensitivity": sensitivity.value(),
        }),
        DpEvent::NonPrivate => json!({ "kind": "non-private" }),
        DpEvent::PoissonSampled { sampling_rate, event } => {
            json!({ "kind": "poisson-sampled", "sampling_rate": sampling_rate.value(), "event": encode(event)? })
        }
        DpEvent::Repeated { event, count } => {
            json!({ "kind": "repeated", "count": count, "event": encode(event)? })
        }
        DpEvent::Skellam {
            l1_clip_norm,
            l2_clip_norm,
            noise_std_dev,
        } => json!({
            "kind": "skellam",
            "l1_clip_norm": l1_clip_norm.value(),
            "l2_clip_norm": l2_clip_norm.value(),
            "noise_std_dev": noise_std_dev.value(),
        }),
        DpEvent::Tree {
            epochs,
            noise_multiplier,
            steps,
        } => json!({
            "kind": "tree",
            "epochs": epochs,
            "noise_multiplier": noise_multiplier.value(),
            "steps": steps,
        }),
        DpEvent::TruncatedPoissonSampled {
            cap,
            event,
            population_size,
            sampling_rate,
        } => json!({
            "kind": "truncated-poisson-sampled",
            "cap": cap,
            "event": encode(event)?,
            "population_size": population_size,
            "sampling_rate": sampling_rate.value(),
        }),
        DpEvent::ZeroConcentrated { rho } if rho.value().is_finite() => {
            json!({ "kind": "zero-concentrated", "rho": rho.value() })
        }
        DpEvent::ZeroConcentrated { .. } => {
            return Err("an event of infinite ρ: expected it to be recorded as non-private".to_owned());
        }
    })
}

/// Decodes an event. An unknown kind or field is an error, never ignored: it could change what the event costs.
pub(super) fn decode(value: &Value) -> Result<DpEvent, String> {
    let fields = value.as_object();
    let fields = fields.ok_or("event: expected an object with a `kind`")?;
    let kind = fields.get("kind").and_then(Value::as_str);
    let kind = kind.ok_or("event: expected an object with a `kind`")?;
    let (event, n_fields) = decode_kind(&Fields { kind, fields })?;
    if fields.len() == n_fields {
        Ok(event)
    } else {
        Err(format!(
            "an event with fields that its kind does not have: {value}"
        ))
    }
}

/// The event, and how many fields its kind has.
fn decode_kind(fields: &Fields<'_>) -> Result<(DpEvent, usize), String> {
    let event = match fields.kind {
        "composed" => {
            let events = fields.fields.get("events").and_then(Value::as_array);
            let events = events.ok_or("event `composed`: expected a list as `events`")?;
            DpEvent::Composed(events.iter().map(decode).collect::<Result<_, _>>()?)
        }
        "discrete-gaussian" => DpEvent::DiscreteGaussian {
            clip_norm: fields.real("clip_norm", ClipNorm::new)?,
            dimension: fields.count("dimension")?,
            noise_std_dev: fields.real("noise_std_dev", NoiseStdDev::new)?,
        },
        "discrete-laplace" => DpEvent::DiscreteLaplace {
            clip_norm: fields.real("clip_norm", ClipNorm::new)?,
            noise_scale: fields.real("noise_scale", NoiseScale::new)?,
        },
        "fixed-size-sampled" => DpEvent::FixedSizeSampled {
            event: fields.inner()?,
            population_size: fields.count("population_size")?,
            sample_size: fields.count("sample_size")?,
        },
        "gaussian" => DpEvent::Gaussian {
            noise_multiplier: fields.real("noise_multiplier", NoiseMultiplier::new)?,
        },
        "laplace" => DpEvent::Laplace {
            noise_multiplier: fields.real("noise_multiplier", NoiseMultiplier::new)?,
        },
        "matrix-mechanism" => DpEvent::MatrixMechanism {
            noise_multiplier: fields.real("noise_multiplier", NoiseMultiplier::new)?,
            sensitivity: fields.real("sensitivity", Sensitivity::new)?,
        },
        "non-private" => DpEvent::NonPrivate,
        "poisson-sampled" => DpEvent::PoissonSampled {
            sampling_rate: fields.real("sampling_rate", SamplingRate::new)?,
            event: fields.inner()?,
        },
        "repeated" => DpEvent::Repeated {
            event: fields.inner()?,
            count: fields.count("count")?,
        },
        "skellam" => DpEvent::Skellam {
            l1_clip_norm: fields.real("l1_clip_norm", ClipNorm::new)?,
            l2_clip_norm: fields.real("l2_clip_norm", ClipNorm::new)?,
            noise_std_dev: fields.real("noise_std_dev", NoiseStdDev::new)?,
        },
        "tree" => DpEvent::Tree {
            epochs: fields.count("epochs")?,
            noise_multiplier: fields.real("noise_multiplier", NoiseMultiplier::new)?,
            steps: fields.count("steps")?,
        },
        "truncated-poisson-sampled" => DpEvent::TruncatedPoissonSampled {
            cap: fields.count("cap")?,
            event: fields.inner()?,
            population_size: fields.count("population_size")?,
            sampling_rate: fields.real("sampling_rate", SamplingRate::new)?,
        },
        "zero-concentrated" => DpEvent::ZeroConcentrated {
            rho: fields.real("rho", Rho::new)?,
        },
        other => return Err(format!("event of unknown kind `{other}`")),
    };
    let n_fields = match event {
        DpEvent::NonPrivate => 1,
        DpEvent::Composed(_)
        | DpEvent::Gaussian { .. }
        | DpEvent::Laplace { .. }
        | DpEvent::ZeroConcentrated { .. } => 2,
        DpEvent::DiscreteLaplace { .. }
        | DpEvent::MatrixMechanism { .. }
        | DpEvent::PoissonSampled { .. }
        | DpEvent::Repeated { .. } => 3,
        DpEvent::DiscreteGaussian { .. }
        | DpEvent::FixedSizeSampled { .. }
        | DpEvent::Skellam { .. }
        | DpEvent::Tree { .. } => 4,
        DpEvent::TruncatedPoissonSampled { .. } => 5,
    };
    Ok((event, n_fields))
}

/// The fields of one event, read by name.
struct Fields<'a> {
    kind: &'a str,
    fields: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn count(&self, key: &str) -> Result<u64, String> {
        self.expect(key, "a whole number", Value::as_u64)
    }

    fn inner(&self) -> Result<Box<DpEvent>, String> {
        let event = self.fields.get("event");
        let event = event.ok_or_else(|| format!("event `{}`: expected an `event`", self.kind))?;
        decode(event).map(Box::new)
    }

    fn real<T>(&self, key: &str, check: impl Fn(f64) -> Result<T, ParamError>) -> Result<T, String> {
        // A whole number without a point would be a second text for the same value.
        let real = |value: &Value| value.as_f64().filter(|_| value.is_f64());
        let number = self.expect(key, "a number with a point", real)?;
        check(number).map_err(|error| format!("event `{}`: {error}", self.kind))
    }

    fn expect<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, String> {
        self.fields
            .get(key)
            .and_then(read)
            .ok_or_else(|| format!("event `{}`: expected {what} as `{key}`", self.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::super::canonical;
    use super::*;

    fn noise() -> NoiseMultiplier {
        NoiseMultiplier::new(1.1).unwrap()
    }

    fn rate() -> SamplingRate {
        SamplingRate::new(0.25).unwrap()
    }

    fn clip(norm: f64) -> ClipNorm {
        ClipNorm::new(norm).unwrap()
    }

    fn gaussian() -> Box<DpEvent> {
        Box::new(DpEvent::Gaussian {
            noise_multiplier: noise(),
        })
    }

    /// Each kind with the text that it has in every ledger that was ever written. A line of this table is never changed.
    fn forms() -> Vec<(DpEvent, &'static str)> {
        let deviation = NoiseStdDev::new(300.5).unwrap();
        vec![
            (
                DpEvent::Composed(vec![*gaussian(), DpEvent::NonPrivate]),
                r#"{"events":[{"kind":"gaussian","noise_multiplier":1.1},{"kind":"non-private"}],"kind":"composed"}"#,
            ),
            (
                DpEvent::DiscreteGaussian {
                    clip_norm: clip(200.0),
                    dimension: 8,
                    noise_std_dev: deviation,
                },
                r#"{"clip_norm":200.0,"dimension":8,"kind":"discrete-gaussian","noise_std_dev":300.5}"#,
            ),
            (
                DpEvent::DiscreteLaplace {
                    clip_norm: clip(3.0),
                    noise_scale: NoiseScale::new(2.5).unwrap(),
                },
                r#"{"clip_norm":3.0,"kind":"discrete-laplace","noise_scale":2.5}"#,
            ),
            (
                DpEvent::FixedSizeSampled {
                    event: gaussian(),
                    population_size: 1000,
                    sample_size: 20,
                },
                r#"{"event":{"kind":"gaussian","noise_multiplier":1.1},"kind":"fixed-size-sampled","population_size":1000,"sample_size":20}"#,
            ),
            (*gaussian(), r#"{"kind":"gaussian","noise_multiplier":1.1}"#),
            (
                DpEvent::Laplace {
                    noise_multiplier: noise(),
                },
                r#"{"kind":"laplace","noise_multiplier":1.1}"#,
            ),
            (
                DpEvent::MatrixMechanism {
                    noise_multiplier: noise(),
                    sensitivity: Sensitivity::new(4.5).unwrap(),
                },
                r#"{"kind":"matrix-mechanism","noise_multiplier":1.1,"sensitivity":4.5}"#,
            ),
            (DpEvent::NonPrivate, r#"{"kind":"non-private"}"#),
            (
                DpEvent::PoissonSampled {
                    sampling_rate: rate(),
                    event: gaussian(),
                },
                r#"{"event":{"kind":"gaussian","noise_multiplier":1.1},"kind":"poisson-sampled","sampling_rate":0.25}"#,
            ),
            (
                DpEvent::Repeated {
                    event: gaussian(),
                    count: 40,
                },
                r#"{"count":40,"event":{"kind":"gaussian","noise_multiplier":1.1},"kind":"repeated"}"#,
            ),
            (
                DpEvent::Skellam {
                    l1_clip_norm: clip(4000.0),
                    l2_clip_norm: clip(200.0),
                    noise_std_dev: deviation,
                },
                r#"{"kind":"skellam","l1_clip_norm":4000.0,"l2_clip_norm":200.0,"noise_std_dev":300.5}"#,
            ),
            (
                DpEvent::Tree {
                    epochs: 2,
                    noise_multiplier: noise(),
                    steps: 64,
                },
                r#"{"epochs":2,"kind":"tree","noise_multiplier":1.1,"steps":64}"#,
            ),
            (
                DpEvent::TruncatedPoissonSampled {
                    cap: 30,
                    event: gaussian(),
                    population_size: 1000,
                    sampling_rate: rate(),
                },
                r#"{"cap":30,"event":{"kind":"gaussian","noise_multiplier":1.1},"kind":"truncated-poisson-sampled","population_size":1000,"sampling_rate":0.25}"#,
            ),
            (
                DpEvent::ZeroConcentrated {
                    rho: Rho::new(0.125).unwrap(),
                },
                r#"{"kind":"zero-concentrated","rho":0.125}"#,
            ),
        ]
    }

    #[test]
    fn each_kind_has_its_text_for_ever() {
        for (event, text) in forms() {
            assert_eq!(canonical::encode(&encode(&event).unwrap()), text);
            assert_eq!(decode(&serde_json::from_str(text).unwrap()).unwrap(), event);
        }
    }

    #[test]
    fn a_field_more_less_or_of_another_type_is_refused() {
        for (event, text) in forms() {
            let form: Value = serde_json::from_str(text).unwrap();
            let keys: Vec<_> = form.as_object().unwrap().keys().cloned().collect();
            let mut more = form.clone();
            more["gift"] = json!(1);
            assert!(decode(&more).is_err(), "{more}");
            for key in keys {
                let mut less = form.clone();
                less.as_object_mut().unwrap().remove(&key);
                assert!(decode(&less).is_err(), "{less}");
                for wrong in [json!(null), json!("1"), json!([]), json!(-1), json!(true)] {
                    let mut other = form.clone();
                    other[&key] = wrong;
                    // A composition of nothing is a composition.
                    let empty = matches!(event, DpEvent::Composed(_)) && other["events"] == json!([]);
                    assert!(empty || decode(&other).is_err(), "{other}");
                }
            }
        }
    }

    #[test]
    fn nested_events_read_back_to_themselves() {
        let nested = forms()
            .into_iter()
            .fold(DpEvent::NonPrivate, |inner, (event, _)| DpEvent::Repeated {
                event: Box::new(DpEvent::Composed(vec![event, inner])),
                count: 3,
            });
        assert_eq!(decode(&encode(&nested).unwrap()).unwrap(), nested);
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (text, reason) in [
            (r#"{"kind":"free"}"#, "unknown kind `free`"),
            (
                r#"{"kind":"gaussian","noise_multiplier":0.0}"#,
                "noise multiplier must be",
            ),
            (
                r#"{"kind":"gaussian"}"#,
                "expected a number with a point as `noise_multiplier`",
            ),
            (
                r#"{"kind":"poisson-sampled","sampling_rate":2.0,"event":{"kind":"non-private"}}"#,
                "sampling rate must be",
            ),
            (
                r#"{"kind":"tree","epochs":1.5,"noise_multiplier":1.0,"steps":4}"#,
                "expected a whole number as `epochs`",
            ),
            (
                r#"{"kind":"skellam","l1_clip_norm":1.0,"l2_clip_norm":-1.0,"noise_std_dev":1.0}"#,
                "clip norm must be",
            ),
            (r#"[]"#, "expected an object"),
            (
                r#"{"kind":"laplace","noise_multiplier":1}"#,
                "expected a number with a point",
            ),
            (
                r#"{"kind":"non-private","truncated_at":5}"#,
                "fields that its kind does not have",
            ),
        ] {
            let error = decode(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let infinite = DpEvent::ZeroConcentrated {
            rho: Rho::new(f64::INFINITY).unwrap(),
        };
        assert!(encode(&infinite).unwrap_err().contains("non-private"));
    }
}
