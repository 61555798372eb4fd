//! Secrets of a site: named in its configuration, kept elsewhere.

use std::path::Path;

use crate::say;

/// A resolved secret; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret could not be had. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{}", say!(
        "密钥不写在配置里，应写成 env:变量名 或 file:文件",
        "a secret is not written in the configuration: use env:NAME or file:PATH"
    ))]
    Plain,
    #[error("{}", say!("环境变量 {_0} 没有设置或为空", "the environment variable {_0} is not set or empty"))]
    Env(String),
    #[error("{}", say!("密钥文件 {_0} 读不出：{_1}", "the secret file {_0} cannot be read: {_1}"))]
    File(String, String),
    #[error("{}", say!("密钥文件 {_0} 是空的", "the secret file {_0} is empty"))]
    Empty(String),
}

impl Secret {
    /// Reads `env:NAME`, or `file:PATH` (relative to `base_dir`; the line end is dropped).
    ///
    /// # Errors
    /// When it is written out in the configuration, missing or empty.
    pub fn resolve(spec: &str, base_dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, SecretError> {
        if let Some(name) = spec.strip_prefix("env:") {
            let found = env(name).filter(|value| !value.is_empty());
            return found.map(Self).ok_or_else(|| SecretError::Env(name.to_owned()));
        }
        let path = base_dir.join(spec.strip_prefix("file:").ok_or(SecretError::Plain)?);
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|e| SecretError::File(shown.clone(), e.to_string()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() { Err(SecretError::Empty(shown)) } else { Ok(Self(text.to_owned())) }
    }

    /// Stands in where nothing will be sent.
    pub(super) fn absent() -> Self {
        Self("absent".to_owned())
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_outside_and_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "s3cret\n").unwrap();
        let env = |name: &str| (name == "KEY").then(|| "k".to_owned());
        assert_eq!(Secret::resolve("env:KEY", dir.path(), &env).unwrap().expose(), "k");
        let secret = Secret::resolve("file:token", dir.path(), &env).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(matches!(Secret::resolve("env:NONE", dir.path(), &env), Err(SecretError::Env(_))));
        assert!(matches!(Secret::resolve("file:none", dir.path(), &env), Err(SecretError::File(..))));
        let plain = Secret::resolve("hunter2", dir.path(), &env).unwrap_err();
        assert!(!plain.to_string().contains("hunter2"));
    }
}
