//! `umbel predict`.

use std::process::ExitCode;

use serde_json::{Value, json};
use umbel_sim::{Predictions, predict_file};

use crate::args::PredictArgs;
use crate::output;

pub(crate) fn run(args: &PredictArgs) -> anyhow::Result<ExitCode> {
    let predictions = predict_file(&args.model, &args.input)?;
    if args.json {
        output::result(&serde_json::to_string_pretty(&as_json(&predictions))?)?;
    } else {
        output::result(&describe(&predictions))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line an example: number, class, probability; whether that is right, where the file says.
fn describe(predictions: &Predictions) -> String {
    let width = predictions
        .classes
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    let mut lines = vec![format!("example  {:<width$}  probability", "class")];
    for (number, example) in predictions.examples.iter().enumerate() {
        let class = &predictions.classes[example.class];
        let truth = match example.label {
            Some(label) if label != example.class => format!("  wrong: {}", predictions.classes[label]),
            _ => String::new(),
        };
        lines.push(format!(
            "{number:>7}  {class:<width$}  {:>11.4}{truth}",
            example.probabilities[example.class]
        ));
    }
    if let Some(accuracy) = predictions.accuracy() {
        lines.push(format!(
            "accuracy {accuracy:.4} on {} examples",
            predictions.examples.len()
        ));
    }
    lines.join("\n")
}

fn as_json(predictions: &Predictions) -> Value {
    let name = |class: usize| predictions.classes[class].as_str();
    let examples = predictions.examples.iter().map(|example| {
        json!({
            "class": name(example.class),
            "probability": example.probabilities[example.class],
            "probabilities": example.probabilities,
            "label": example.label.map(name),
        })
    });
    json!({
        "classes": predictions.classes,
        "predictions": examples.collect::<Vec<_>>(),
        "accuracy": predictions.accuracy(),
    })
}
