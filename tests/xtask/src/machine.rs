//! Getting the machine ready: what is missing is named, and installed when that is possible.

use tcpcopy_lab::{Programs, install_missing, missing};

use crate::error::Result;

/// Installs what the lab lacks, telling what it does.
pub(crate) fn prepare() -> Result<()> {
    let lacking = missing();
    if lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = lacking.iter().map(|requirement| requirement.name).collect();
    println!("missing on this machine: {}", names.join(", "));
    let installed = install_missing()?;
    let packages: Vec<_> = installed
        .iter()
        .map(|requirement| requirement.package)
        .collect();
    println!("installed with apt-get: {}", packages.join(", "));
    Ok(())
}

/// Gets the machine ready and builds the two programs as users get them.
pub(crate) fn programs() -> Result<Programs> {
    prepare()?;
    println!(
        "tcpcopy and intercept: a release build, unless TCPCOPY_BIN and INTERCEPT_BIN name some"
    );
    Ok(Programs::find()?)
}
