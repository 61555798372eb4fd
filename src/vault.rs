//! The site's key: seals names, addresses and variables at rest, hashes what must
//! be looked up, and makes the ids that gateways see.
//!
//! The key is a file of its own, mode 0600, beside the database and never in it.
//! Sealed bytes are `version (1) ‖ nonce (24) ‖ XChaCha20-Poly1305 ciphertext`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use rand::RngCore as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::domain::ids::{CallRef, DeliveryRef};
use crate::say;

mod xchacha;

use xchacha::{KEY, NONCE, TAG, XChaCha};

const VERSION: u8 = 1;

/// Length of a keyed hash as stored, in bytes (HMAC-SHA-256 cut to 128 bits).
pub const HASH: usize = 16;

/// What can be wrong with the key or with sealed bytes.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("{}", missing(.0))]
    Missing(PathBuf),
    #[error("{}", exists(.0))]
    Exists(PathBuf),
    #[error("{}", malformed(.0))]
    Malformed(PathBuf),
    #[error("{}", exposed(.0, *.1))]
    Exposed(PathBuf, u32),
    #[error("{}", unreadable(.0))]
    Unreadable(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] std::io::Error),
    #[error("{}", say!("密文无法解开：密钥不是封存时所用的那一把，或数据已损坏", "sealed data does not open: another key sealed it, or it is damaged"))]
    Sealed,
}

fn missing(path: &Path) -> String {
    let path = path.display();
    say!(
        "找不到密钥文件 {path}。它由 gong init 生成；没有它，姓名和号码无法读出。请从备份处取回，放回原处",
        "the key file {path} is missing. gong init made it; without it names and numbers cannot be read. Bring it back from where you keep it"
    )
}

fn exists(path: &Path) -> String {
    let path = path.display();
    say!("密钥文件 {path} 已存在，未作改动", "the key file {path} exists already; it was left as it is")
}

fn malformed(path: &Path) -> String {
    let path = path.display();
    say!(
        "密钥文件 {path} 内容不对：应为 64 个十六进制字符",
        "the key file {path} is not a key: expected 64 hexadecimal characters"
    )
}

fn exposed(path: &Path, mode: u32) -> String {
    let path = path.display();
    say!(
        "密钥文件 {path} 的权限是 {mode:o}，别人也能读。请执行：chmod 600 {path}",
        "the key file {path} has mode {mode:o}, so others can read it. Run: chmod 600 {path}"
    )
}

fn unreadable(path: &Path) -> String {
    let path = path.display();
    say!(
        "不能读取密钥文件 {path}：它属于别的用户，或它所在的文件夹不让进。以 root 身份把它交给运行 gong 的用户，如：chown gong: {path} && chmod 600 {path}",
        "may not read the key file {path}: it is another user's, or its folder is closed. As root give it to the user that gong runs as, e.g.: chown gong: {path} && chmod 600 {path}"
    )
}

/// The keys derived from the key file. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    seal: XChaCha,
    mac: Hmac<Sha256>,
    key_id: [u8; 8],
    check: String,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// Makes a new random key file.
    ///
    /// # Errors
    /// When the file exists already or cannot be written.
    pub fn create(path: &Path) -> Result<Self, VaultError> {
        let io = |e| VaultError::Io(path.to_owned(), e);
        if path.exists() {
            return Err(VaultError::Exists(path.to_owned()));
        }
        let mut key = [0_u8; KEY];
        rand::rng().fill_bytes(&mut key);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(hex(&key).as_bytes())
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .map_err(io)?;
        Ok(Self::from_key(&key))
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// When it is missing, not a key, or readable by others.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let text = fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => VaultError::Missing(path.to_owned()),
            std::io::ErrorKind::PermissionDenied => VaultError::Unreadable(path.to_owned()),
            _ => VaultError::Io(path.to_owned(), e),
        })?;
        let mode = fs::metadata(path).map_err(|e| VaultError::Io(path.to_owned(), e))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(VaultError::Exposed(path.to_owned(), mode));
        }
        let key = unhex(text.trim()).ok_or_else(|| VaultError::Malformed(path.to_owned()))?;
        Ok(Self::from_key(&key))
    }

    /// A vault over the given key; tests and benches use it.
    #[must_use]
    pub fn from_key(key: &[u8; KEY]) -> Self {
        let root = new_mac(key);
        let check = derive(&root, "check");
        let id = derive(&root, "key id");
        let mut key_id = [0_u8; 8];
        key_id.copy_from_slice(&id[..8]);
        Self {
            seal: XChaCha::new(derive(&root, "seal")),
            mac: new_mac(&derive(&root, "hash")),
            key_id,
            check: hex(&check[..8]),
        }
    }

    /// A value that tells whether a database belongs to this key, and nothing else.
    #[must_use]
    pub fn check_value(&self) -> &str {
        &self.check
    }

    /// Seals `plain`, bound to the row that holds it.
    #[must_use]
    pub fn seal(&self, owner: Owner, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0_u8; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let mut out = Vec::with_capacity(1 + NONCE + plain.len() + TAG);
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        self.seal.seal(&nonce, &self.aad(owner), plain, &mut out);
        out
    }

    /// Opens what [`Vault::seal`] sealed for the same owner.
    ///
    /// # Errors
    /// When the key, the owner or the bytes are not the ones of the sealing.
    pub fn open_sealed(&self, owner: Owner, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (version, rest) = sealed.split_first().ok_or(VaultError::Sealed)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(VaultError::Sealed)?;
        if *version != VERSION {
            return Err(VaultError::Sealed);
        }
        self.seal.open(nonce, &self.aad(owner), rest).ok_or(VaultError::Sealed)
    }

    /// [`Vault::open_sealed`] for text.
    ///
    /// # Errors
    /// As there, and when the bytes are not UTF-8.
    pub fn open_text(&self, owner: Owner, sealed: &[u8]) -> Result<String, VaultError> {
        String::from_utf8(self.open_sealed(owner, sealed)?).map_err(|_| VaultError::Sealed)
    }

    /// A keyed hash for lookup and uniqueness; `purpose` keeps phone numbers,
    /// names and external ids apart.
    #[must_use]
    pub fn hash(&self, purpose: &str, value: &str) -> Vec<u8> {
        let mut mac = self.mac.clone();
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        mac.finalize().into_bytes()[..HASH].to_vec()
    }

    /// The id a gateway sees for one attempt of a delivery: a UUIDv8 (RFC 9562)
    /// that carries the reference and a MAC, so that a receipt finds its delivery
    /// without a table and cannot be forged by counting.
    #[must_use]
    pub fn client_id(&self, of: DeliveryRef) -> Uuid {
        of.to_uuid(self.ref_mac(of))
    }

    /// The delivery a client id names, if this site made it.
    #[must_use]
    pub fn read_client_id(&self, id: Uuid) -> Option<DeliveryRef> {
        let of = DeliveryRef::from_uuid(id)?;
        (self.client_id(of) == id).then_some(of)
    }

    fn ref_mac(&self, of: DeliveryRef) -> [u8; 6] {
        let mut mac = self.mac.clone();
        mac.update(b"client id\0");
        mac.update(&of.dispatch_no.to_be_bytes());
        mac.update(&of.ordinal.to_be_bytes());
        mac.update(&of.attempt.to_be_bytes());
        let full = mac.finalize().into_bytes();
        let mut cut = [0_u8; 6];
        cut.copy_from_slice(&full[..6]);
        cut
    }

    /// What stands in a duty officer's link: it names the question and cannot be guessed.
    #[must_use]
    pub fn call_token(&self, of: CallRef) -> String {
        let mut mac = self.mac.clone();
        mac.update(b"call\0");
        mac.update(&of.call_no.to_be_bytes());
        mac.update(&of.ordinal.to_be_bytes());
        let full = mac.finalize().into_bytes();
        let mut cut = [0_u8; 8];
        cut.copy_from_slice(&full[..8]);
        of.to_token(u64::from_be_bytes(cut))
    }

    /// The question a token names, if this site made it.
    #[must_use]
    pub fn read_call_token(&self, token: &str) -> Option<CallRef> {
        let of = CallRef::from_token(token)?;
        bool::from(self.call_token(of).as_bytes().ct_eq(token.as_bytes())).then_some(of)
    }

    fn aad(&self, owner: Owner) -> [u8; 25] {
        let mut aad = [0_u8; 25];
        let (tag, a, b) = match owner {
            Owner::Address(id) => (1, id, 0),
            Owner::Recipient(no) => (2, no, 0),
            Owner::ListRow(list, recipient) => (3, list, recipient),
            Owner::Point(no) => (4, no, 0),
            Owner::Officer(region) => (5, region, 0),
            Owner::Receipt(no) => (6, no, 0),
            Owner::Reply(no) => (9, no, 0),
            Owner::Posting(dispatch, ordinal) => (12, dispatch, ordinal),
            Owner::Visit(dispatch, ordinal) => (8, dispatch, ordinal),
        };
        aad[0] = tag;
        aad[1..9].copy_from_slice(&a.to_be_bytes());
        aad[9..17].copy_from_slice(&b.to_be_bytes());
        aad[17..].copy_from_slice(&self.key_id);
        aad
    }
}

/// The row that sealed bytes belong to; bytes moved to another row do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Address(i64),
    Recipient(i64),
    /// (list, recipient): the variables of a list row, and of a member made from it.
    ListRow(i64, i64),
    Point(i64),
    Officer(i64),
    Receipt(i64),
    Reply(i64),
    /// (dispatch, delivery): who put a sheet up.
    Posting(i64, i64),
    /// (dispatch, delivery): who knocked there.
    Visit(i64, i64),
}

fn new_mac(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length, so this cannot fail.
    <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!())
}

fn derive(root: &Hmac<Sha256>, label: &str) -> [u8; KEY] {
    let mut mac = root.clone();
    mac.update(label.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Lowercase hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
    String::from_utf8(digits.collect()).unwrap_or_default()
}

fn unhex(text: &str) -> Option<[u8; KEY]> {
    if text.len() != KEY * 2 || !text.is_ascii() {
        return None;
    }
    let mut out = [0_u8; KEY];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(i * 2..i * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_only_for_their_owner_and_key() {
        let vault = Vault::from_key(&[7; 32]);
        let sealed = vault.seal(Owner::Address(1), b"13900000000");
        assert_eq!(vault.open_text(Owner::Address(1), &sealed).unwrap(), "13900000000");
        assert!(vault.open_sealed(Owner::Address(2), &sealed).is_err());
        assert!(Vault::from_key(&[8; 32]).open_sealed(Owner::Address(1), &sealed).is_err());
        assert!(vault.open_sealed(Owner::Address(1), &sealed[..10]).is_err());
    }

    #[test]
    fn what_an_older_gong_sealed_still_opens() {
        let sealed = "01168da7422fb1d344ec1158e2ef37e18ee11567aeb71dd4bafa2d9e1e557b3c79\
            0f24a885ba76d901d74ae1bcbcf0afd1093d9ecc65eaac0c12f42d40b4cb7e4ab64e";
        let sealed = hex::decode(sealed).unwrap();
        let vault = Vault::from_key(&[7; 32]);
        assert_eq!(vault.open_text(Owner::ListRow(3, 14), &sealed).unwrap(), "姓名=张三, 13900000000");
        assert!(vault.open_sealed(Owner::ListRow(14, 3), &sealed).is_err());
    }

    #[test]
    fn client_ids_are_read_back_and_not_forged() {
        let vault = Vault::from_key(&[7; 32]);
        let of = DeliveryRef { dispatch_no: 12, ordinal: 3_000_000, attempt: 1023 };
        let id = vault.client_id(of);
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(vault.read_client_id(id), Some(of));
        assert_eq!(Vault::from_key(&[8; 32]).read_client_id(id), None);
        assert_eq!(vault.read_client_id(Uuid::now_v7()), None);
    }

    #[test]
    fn call_tokens_are_short_read_back_and_not_forged() {
        let vault = Vault::from_key(&[7; 32]);
        for (call_no, ordinal) in [(1, 1), (12, 14_000), (u32::MAX, (1 << 24) - 1)] {
            let of = CallRef { call_no, ordinal };
            let token = vault.call_token(of);
            assert!(token.len() <= 20, "{token}");
            assert_eq!(vault.read_call_token(&token), Some(of));
            assert_eq!(Vault::from_key(&[8; 32]).read_call_token(&token), None);
            let mut forged = token.clone().into_bytes();
            let last = forged.last_mut().unwrap();
            *last = if *last == b'2' { b'3' } else { b'2' };
            assert_eq!(vault.read_call_token(std::str::from_utf8(&forged).unwrap()), None);
            assert_eq!(vault.read_call_token(&format!("1{token}")), None, "one spelling only");
        }
        for wrong in ["", "1", "0", "中", &"z".repeat(40)] {
            assert_eq!(vault.read_call_token(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_key_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gong.key");
        let made = Vault::create(&path).unwrap();
        assert_eq!(Vault::open(&path).unwrap().check_value(), made.check_value());
        assert!(matches!(Vault::create(&path), Err(VaultError::Exists(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Vault::open(&path), Err(VaultError::Exposed(_, 0o644))));
    }
}
