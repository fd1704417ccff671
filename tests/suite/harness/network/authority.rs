use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A private CA: a root, an intermediate, and a folder for its files.
pub(crate) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// Certificate chain of a server, and its key.
pub(crate) struct Chain {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(issuer("test root"), KeyPair::generate().unwrap());
        let root = root.unwrap();
        let intermediate = CertifiedIssuer::signed_by(
            issuer("test intermediate"),
            KeyPair::generate().unwrap(),
            &root,
        );
        Self {
            intermediate: intermediate.unwrap(),
            root,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Returns a PEM file with the root.
    pub(crate) fn root_file(&self) -> PathBuf {
        self.file("root.pem", &self.root.pem())
    }

    /// Returns a PEM file with the intermediate alone.
    pub(crate) fn intermediate_file(&self) -> PathBuf {
        self.file("intermediate.pem", &self.intermediate.pem())
    }

    /// Issues a server certificate for `name`, with the intermediate.
    pub(crate) fn certify(&self, name: &str) -> Chain {
        self.certify_until(name, 2100)
    }

    /// Issues the same, valid to the beginning of `year`.
    pub(crate) fn certify_until(&self, name: &str, year: i32) -> Chain {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(params)
    }

    /// Issues a server certificate with a common name and no alternative name.
    pub(crate) fn certify_nobody(&self) -> Chain {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "127.0.0.1");
        self.sign(params)
    }

    /// Issues a CA certificate in the place of a server certificate.
    pub(crate) fn show_itself(&self) -> Chain {
        let mut params = issuer("another intermediate");
        params.subject_alt_names = CertificateParams::new(["127.0.0.1".to_owned()])
            .unwrap()
            .subject_alt_names;
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Chain {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        Chain {
            certificates: vec![leaf.der().clone(), self.intermediate.der().clone()],
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }

    fn file(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }
}

fn issuer(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}
