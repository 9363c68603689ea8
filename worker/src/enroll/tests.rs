use std::os::unix::fs::PermissionsExt as _;

use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer};

use super::*;

/// Signs a request, as AWS IoT Core would.
fn sign(request: &Path, certificate: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params, KeyPair::generate().unwrap());
    let request = CertificateSigningRequestParams::from_pem(&fs::read_to_string(request).unwrap()).unwrap();
    fs::write(certificate, request.signed_by(&issuer).unwrap().pem()).unwrap();
}

/// Whether the current certificate and key are a pair.
fn current_works(folder: &Path) -> bool {
    let current = folder.join(CURRENT);
    tls::check_pair(&current.join("cert.pem"), &current.join("key.pem")).is_ok()
}

#[test]
fn an_identity_is_requested_installed_and_renewed() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, certificate) = (temporary.path().join("identity"), temporary.path().join("signed.pem"));
    let mut keys = Vec::new();

    for _ in 0..2 {
        let request = request(&folder, "plant-7").unwrap();
        sign(&request, &certificate);
        install(&folder, &certificate).unwrap();
        assert!(current_works(&folder));
        keys.push(fs::read(folder.join("current/key.pem")).unwrap());
    }
    assert_ne!(keys[0], keys[1], "a renewal has a key of its own");
}

#[test]
fn a_request_that_waits_is_kept_with_its_key() {
    let temporary = tempfile::tempdir().unwrap();
    let first = request(temporary.path(), "plant-7").unwrap();
    let key = fs::read(first.with_file_name("key.pem")).unwrap();
    assert_eq!(request(temporary.path(), "plant-7").unwrap(), first);
    assert_eq!(fs::read(first.with_file_name("key.pem")).unwrap(), key);
}

#[test]
fn the_key_is_readable_by_its_owner_only() {
    let temporary = tempfile::tempdir().unwrap();
    let request = request(temporary.path(), "plant-7").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&request.with_file_name("key.pem")), 0o600);
    assert_eq!(mode(request.parent().unwrap()), 0o700);
}

#[test]
fn a_certificate_of_another_key_is_not_installed() {
    let temporary = tempfile::tempdir().unwrap();
    let (ours, theirs) = (temporary.path().join("ours"), temporary.path().join("theirs"));
    request(&ours, "plant-7").unwrap();
    let certificate = temporary.path().join("signed.pem");
    sign(&request(&theirs, "plant-7").unwrap(), &certificate);

    let error = install(&ours, &certificate).unwrap_err().to_string();
    assert!(error.contains("does not belong to the certificate"), "{error}");
    assert!(!ours.join(CURRENT).exists());
}

#[test]
fn a_certificate_without_a_request_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let error = install(temporary.path(), &temporary.path().join("none.pem")).unwrap_err();
    assert!(matches!(error, EnrollError::NothingPending { .. }), "{error}");
}

/// Copies a folder as a power cut would leave it after some of the steps, and takes up the work there.
#[test]
fn a_power_cut_between_any_two_steps_leaves_a_working_identity_and_a_way_on() {
    for cut_after in ["directory", "key.pem", "request.csr", "cert.pem", "link"] {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, certificate) = (temporary.path().join("identity"), temporary.path().join("signed.pem"));
        let first = request(&folder, "plant-7").unwrap();
        sign(&first, &certificate);
        install(&folder, &certificate).unwrap();

        // The renewal, as far as it came.
        let steps = ["directory", "key.pem", "request.csr", "cert.pem", "link"];
        let done = steps.iter().position(|step| *step == cut_after).unwrap();
        let second = request(&folder, "plant-7").unwrap();
        sign(&second, &certificate);
        for step in &steps[done + 1..] {
            let _ = fs::remove_file(second.with_file_name(step));
        }
        if done >= 3 {
            fs::copy(&certificate, second.with_file_name("cert.pem")).unwrap();
        }
        if done == 4 {
            symlink("identities/nothing", folder.join(".current.new")).unwrap();
        }
        assert!(current_works(&folder), "cut after {cut_after}");

        let again = request(&folder, "plant-7").unwrap();
        sign(&again, &certificate);
        install(&folder, &certificate).unwrap();
        assert!(current_works(&folder), "cut after {cut_after}, then repeated");
        assert_eq!(again, second, "the work goes on where it stopped");
    }
}
