//! What may stand after `umbel certs`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Mint and show development certificates and their fingerprints.
///
/// For trying things out, and for tests: a real federation uses certificates of its own authority, in the same PEM files. Keys
/// are readable by their owner only, and no file is ever overwritten.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel certs init
  umbel certs init --dir certs --host fl.example.org --client hospital-1 --client hospital-2
  umbel certs client hospital-3 --dir certs
  umbel certs revoke hospital-2 --dir certs
  umbel certs show --dir certs")]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    pub(crate) command: CertsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make an authority, a server's certificate and clients' certificates.
    Init(InitArgs),
    /// Mint a server's certificate.
    Server(ServerArgs),
    /// Mint a client's certificate. The server knows the client by the name in it.
    Client(ClientArgs),
    /// Revoke a certificate: writes revoked.pem, which a running server reads again by itself.
    Revoke(ClientArgs),
    /// Show all certificates of a folder and their fingerprints, to compare with what the other side sees.
    Show(ShowArgs),
}

#[derive(Debug, Parser)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) folder: Folder,

    /// Name or address under which clients reach the server. May be given several times.
    #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub(crate) hosts: Vec<String>,

    /// A client. May be given several times.
    #[arg(long = "client", value_name = "NAME", default_value = "client")]
    pub(crate) clients: Vec<String>,
}

#[derive(Debug, Parser)]
pub(crate) struct ServerArgs {
    /// Name of the files.
    #[arg(value_name = "NAME", default_value = "server")]
    pub(crate) name: String,

    /// Name or address under which clients reach the server. May be given several times.
    #[arg(long = "host", value_name = "HOST", required = true)]
    pub(crate) hosts: Vec<String>,

    #[command(flatten)]
    pub(crate) folder: Folder,
}

#[derive(Debug, Parser)]
pub(crate) struct ClientArgs {
    /// Name in the certificate and of its files.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) folder: Folder,
}

#[derive(Debug, Parser)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) folder: Folder,

    /// Print as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct Folder {
    /// The folder of the authority.
    #[arg(long = "dir", value_name = "DIR", default_value = "certs")]
    pub(crate) path: PathBuf,
}
