//! `umbel certs`.

use std::process::ExitCode;

use serde_json::json;
use umbel_server::authority::{Authority, Identity};

use crate::args::certs::{CertsArgs, CertsCommand, InitArgs, ShowArgs};
use crate::output;

pub(crate) fn run(args: &CertsArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        CertsCommand::Init(args) => init(args)?,
        CertsCommand::Server(args) => {
            let authority = Authority::open(&args.folder.path);
            output::result(&line(&authority.mint_server(&args.name, &args.hosts)?))?;
        }
        CertsCommand::Client(args) => {
            output::result(&line(
                &Authority::open(&args.folder.path).mint_client(&args.name)?,
            ))?;
        }
        CertsCommand::Revoke(args) => {
            let path = Authority::open(&args.folder.path).revoke(&args.name)?;
            output::result(&path.display().to_string())?;
        }
        CertsCommand::Show(args) => show(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn init(args: &InitArgs) -> anyhow::Result<()> {
    let authority = Authority::create(&args.folder.path)?;
    authority.mint_server("server", &args.hosts)?;
    for client in &args.clients {
        authority.mint_client(client)?;
    }
    for identity in authority.identities()? {
        output::result(&line(&identity))?;
    }
    output::remark(
        "Each is followed by its SHA-256; compare the authority's with what the other side has. For development only: whoever \
         holds authority-key.pem can be anybody.",
    );
    Ok(())
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let identities = Authority::open(&args.folder.path).identities()?;
    if args.json {
        let list: Vec<_> = identities
            .iter()
            .map(|identity| {
                json!({
                    "name": identity.name,
                    "certificate": identity.certificate,
                    "sha256": identity.fingerprint.replace('-', ""),
                    "revoked": identity.revoked,
                })
            })
            .collect();
        return output::result(&serde_json::to_string_pretty(&list)?);
    }
    identities
        .iter()
        .try_for_each(|identity| output::result(&line(identity)))
}

fn line(identity: &Identity) -> String {
    let revoked = if identity.revoked { "  REVOKED" } else { "" };
    format!(
        "{}  {}{revoked}",
        identity.certificate.display(),
        identity.fingerprint
    )
}
