// SPDX-License-Identifier: MIT OR Apache-2.0

//! What README and OPERATIONS show, done by root of the machine: `#` and `$` alike.

use std::fs;

use anyhow::{Context, Result, ensure};
use lab::host::workspace;
use lab::transcript::{judge, script, steps};

use super::{Guest, SHORT};

const DOCUMENTS: [&str; 2] = ["README.md", "docs/OPERATIONS.md"];
/// The folder with the documents that the examples copy.
pub(super) const DOCS: &str = "docs";

/// All examples of all documents.
pub(super) fn happen(guest: &mut Guest) -> Result<()> {
    for name in DOCUMENTS {
        let document = fs::read_to_string(workspace::root().join(name)).with_context(|| format!("reading {name}"))?;
        let (steps, _) = steps(&document);
        let run = format!(
            "cd \"$(mktemp --directory)\"
cp -r /media/lab/{DOCS} docs
mkdir photos
head --bytes=300000 /dev/urandom > photos/a.jpg
chmod 644 photos/a.jpg
echo 'buy milk' > notes.txt
cat > examples <<'END OF EXAMPLES'
{}END OF EXAMPLES
set +e
bash -o pipefail examples",
            script(&steps)
        );
        let printed = guest.ask(&format!("the examples of {name}"), SHORT, &run)?;
        let wrong = judge(&steps, &printed);
        ensure!(wrong.is_empty(), "{name}\n{}", wrong.join("\n"));
    }
    Ok(())
}
