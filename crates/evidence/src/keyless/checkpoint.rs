//! Checkpoints of transparency logs (C2SP tlog-checkpoint, signed-note).

use sigstore_types::Checkpoint;

use crate::trust_root::Log;

/// The most bytes of a checkpoint: a log and a dozen witnesses.
const MAX_CHECKPOINT: usize = 16 * 1024;

/// A checkpoint that the log signed. Signatures of others say nothing here: witnesses are for [`crate::witness`].
pub(super) fn verify(note: &str, log: &Log) -> Result<Checkpoint, String> {
    if note.is_empty() {
        return Err("there is none".into());
    }
    if note.len() > MAX_CHECKPOINT {
        return Err(format!("it has {} bytes, the limit is {MAX_CHECKPOINT}", note.len()));
    }
    let checkpoint = Checkpoint::from_text(note).map_err(|e| e.to_string())?;
    // Hints have four bytes and may collide: every signature under the log's hint is tried.
    let ours = checkpoint.signatures().iter().filter(|s| s.key_id.as_bytes()[..] == log.id[..4]);
    let mut hinted = false;
    for signature in ours {
        hinted = true;
        if log.key.verifies(checkpoint.signed_data(), signature.signature.as_bytes()) {
            return Ok(checkpoint);
        }
    }
    Err(if hinted { "the log's signature does not verify" } else { "the log did not sign it" }.into())
}
