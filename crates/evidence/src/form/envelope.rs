//! DSSE envelopes, and the members that tools add to each signature.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Content, Material, Opened, Over, Unverified, bundle, certificates};
use crate::{
    dsse::{self, Envelope},
    json,
    refusal::Refusal,
};

/// Payload types besides in-toto that some form carries.
pub(crate) const GITTUF: &str = "application/vnd.gittuf+json";

/// How Google Cloud Build names its keys.
const CLOUD_BUILD: &str = "projects/verified-builder/";

/// What tools add to a signature. Nothing of it is trusted: it only helps to verify.
#[derive(Deserialize)]
struct Extra<'a> {
    /// slsa-github-generator: PEM.
    cert: Option<String>,
    /// Witness: base64 of PEM.
    certificate: Option<String>,
    /// Witness: base64 of PEM each.
    #[serde(default)]
    intermediates: Option<Vec<String>>,
    /// Witness: base64 of time stamp responses.
    #[serde(default)]
    timestamps: Option<Vec<Stamp>>,
    /// gittuf and docker/attest: `{kind, ext}`.
    #[serde(borrow, default)]
    extension: Option<&'a RawValue>,
}

/// The members of [`Extra`] as they are written.
const EXTRAS: [&str; 5] =
    ["\"cert\"", "\"certificate\"", "\"intermediates\"", "\"timestamps\"", "\"extension\""];

#[derive(Deserialize)]
struct Stamp {
    #[serde(rename = "type")]
    kind: String,
    data: String,
}

#[derive(Deserialize)]
struct Extras<'a> {
    #[serde(borrow)]
    signatures: Vec<Extra<'a>>,
}

/// Takes an envelope apart.
pub(super) fn open(text: &str) -> Result<Opened, Refusal> {
    let wire: dsse::Wire = json::read(text).map_err(Refusal::Json)?;
    let ssh: Vec<bool> = wire.signatures.iter().map(|s| s.sig.starts_with("LS0tLS1CRUdJTiBTU0gg")).collect();
    let envelope = Envelope::from_wire(wire, "")?;
    // Read once more only when there is anything to find.
    let has_extras = EXTRAS.iter().any(|member| text.contains(member)) || text.contains('\\');
    let extras: Option<Extras<'_>> = has_extras.then(|| json::read(text).ok()).flatten();
    let extras = extras.map(|extras| extras.signatures).unwrap_or_default();
    let mut signatures = Vec::new();
    for (position, signature) in envelope.signatures.into_iter().enumerate() {
        let extra = extras.get(position);
        let mut bytes = signature.bytes;
        let extension = extra.and_then(|extra| extra.extension).map(RawValue::get).and_then(sigstore);
        let material = match extension {
            // gittuf: a whole message signature, over the digest of the pre-authentication encoding.
            Some(material) => {
                let inner = std::str::from_utf8(&bytes).ok().filter(|text| text.starts_with('{'));
                if let Some(inner) = inner {
                    let inner = json::check(inner.as_bytes()).map_err(Refusal::Json)?;
                    bytes = bundle::message_signature(inner)?;
                }
                Some(bundle::material_v03(material)?)
            }
            None => extra.map(|extra| material(extra, position)).transpose()?.flatten(),
        };
        let cloud_build = signature.keyid.as_ref().is_some_and(|keyid| keyid.starts_with(CLOUD_BUILD));
        let over = match () {
            () if envelope.payload_type == GITTUF && ssh.get(position) == Some(&true) => Over::Ssh,
            () if cloud_build => Over::PaeOrRaw,
            () => Over::Pae,
        };
        signatures.push(Unverified {
            bytes,
            over,
            keyid: signature.keyid,
            material,
            envelope: Some(text.trim().as_bytes().to_vec()),
        });
    }
    let content = Content::Payload { payload_type: envelope.payload_type, bytes: envelope.payload };
    Ok(Opened { form: "dsse", content, signatures })
}

/// Sigstore's verification material, if an extension is that.
fn sigstore(extension: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct Extension<'a> {
        kind: String,
        #[serde(borrow)]
        ext: &'a RawValue,
    }
    let extension: Extension<'_> = json::loose(extension).ok()?;
    let ours = extension.kind == "application/vnd.dev.sigstore.verificationmaterial;version=0.3";
    ours.then(|| extension.ext.get())
}

fn material(extra: &Extra<'_>, position: usize) -> Result<Option<Material>, Refusal> {
    let at = |member: &str| format!("/signatures/{position}/{member}");
    let mut material = Material::default();
    if let Some(pem) = extra.cert.as_ref().filter(|pem| !pem.is_empty()) {
        material.certificates.extend(certificates(pem, || at("cert"))?);
    }
    if let Some(text) = extra.certificate.as_ref().filter(|text| !text.is_empty()) {
        let pem = dsse::decode(text, || at("certificate"))?;
        material.certificates.extend(certificates(&String::from_utf8_lossy(&pem), || at("certificate"))?);
    }
    for text in extra.intermediates.iter().flatten() {
        let pem = dsse::decode(text, || at("intermediates"))?;
        material.certificates.extend(certificates(&String::from_utf8_lossy(&pem), || at("intermediates"))?);
    }
    for stamp in extra.timestamps.iter().flatten().filter(|stamp| stamp.kind == "tsp") {
        material.timestamps.push(dsse::decode(&stamp.data, || at("timestamps"))?);
    }
    Ok((!material.certificates.is_empty() || !material.timestamps.is_empty()).then_some(material))
}
