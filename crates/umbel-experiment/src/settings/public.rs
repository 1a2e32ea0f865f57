//! An experiment as it is shown to clients.

use std::path::Path;

use toml::{Table, Value};

use super::Experiment;

impl Experiment {
    /// The experiment as resolved, with the names of data files but not the folders that they lie in: what a server sends to
    /// its clients and hashes into its ledger.
    pub fn to_public_toml(&self) -> String {
        let mut table: Table = self.to_toml().parse().unwrap_or_default();
        if let Some(data) = table.get_mut("data") {
            without_folders(data);
        }
        table.to_string()
    }
}

/// Cuts every text that is an absolute path down to its last part.
fn without_folders(value: &mut Value) {
    match value {
        Value::String(text) => {
            let path = Path::new(text.as_str());
            if let Some(name) = path.file_name().filter(|_| path.is_absolute()) {
                *text = name.to_string_lossy().into_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_folders),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| without_folders(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Overrides;
    use super::*;

    #[test]
    fn clients_see_the_settings_and_no_folder() {
        let text = r#"
            name = "digits"
            [data]
            format = "idx"
            train = { examples = "a/train", labels = "/b/labels", clients = "c.tsv" }
            test = { examples = "/secret/t10k", labels = "t10k-labels" }
            [data.partition]
            kind = "by-key"
            [model]
            kind = "softmax"
            [training]
            epochs = 1
            batch_size = 10
            optimizer = { kind = "sgd", learning_rate = 0.1 }
            [federation]
            clients = 10
            rounds = 3
            cohort = 5
            strategy = { kind = "fedavg" }
            [privacy]
            unit = "client"
            trust = "central"
            clip_norm = 1.0
            epsilon = 8.0
            delta = 1e-3
        "#;
        let experiment = Experiment::parse(text, Path::new("/home/somebody"), &Overrides::default()).unwrap();
        let public = experiment.to_public_toml();
        assert!(
            !public.contains("/home") && !public.contains("secret"),
            "{public}"
        );
        let back = Experiment::parse(&public, Path::new("/"), &Overrides::default()).unwrap();
        assert_eq!(back.federation, experiment.federation);
        assert_eq!(back.privacy, experiment.privacy);
        assert_eq!(back.to_public_toml(), public);
    }
}
