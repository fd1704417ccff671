//! Estimate of how hard a token is to guess.

/// Bits that a token should have.
const WANTED_BITS: usize = 128;

/// Number of different characters that suggests a repeated pattern.
const FEW_CHARACTERS: usize = 4;

/// Returns a warning, without the token, if `token` is easy to guess. A random token gets none.
pub(super) fn weakness(token: &[u8]) -> Option<String> {
    let is_strong = bits(token) >= WANTED_BITS && distinct(token) > FEW_CHARACTERS;
    (!is_strong).then(|| {
        "the token has fewer than 128 random bits (32 hex digits or 22 base64 characters) and may be guessed; make a \
         new one with: alibabacloud-kms-agent token PATH"
            .to_owned()
    })
}

/// Returns an upper bound of the random bits of `text`.
fn bits(text: &[u8]) -> usize {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    // The dashes of a UUID.
    let digits = text.iter().filter(|byte| **byte != b'-').count();
    let is_hex = text
        .iter()
        .all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    if is_hex {
        digits * 4
    } else if text.iter().all(is_base64) {
        text.len() * 6
    } else {
        // 94 visible characters.
        text.len() * 655 / 100
    }
}

fn distinct(text: &[u8]) -> usize {
    let mut seen = [false; 256];
    for byte in text {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_128_random_bits_is_strong() {
        for strong in [
            "a3f1c4099b7e62d85fe013bb7c2d9a46",
            "A3F1C4099B7E62D85FE013BB7C2D9A46",
            "9mK2xQ+vT7/bLwPzR4sYhA",
            "9mK2xQ-vT7_bLwPzR4sYhA==",
            "0123456789abcdef0123456789abcdef",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "k:8#Vq!z@Lw2^Pe$Rt6&",
        ] {
            assert_eq!(weakness(strong.as_bytes()), None, "{strong}");
        }
    }

    #[test]
    fn a_short_or_repeated_token_is_weak_and_is_not_repeated() {
        for weak in [
            "0123456789abcdef".to_owned(),
            "a3f1c4099b7e62d85fe013bb7c2d9a4".to_owned(),
            "9mK2xQ+vT7/bLwPzR4sYh".to_owned(),
            "k:8#Vq!z@Lw2^Pe$Rt6".to_owned(),
            "a".repeat(64),
            "ab".repeat(64),
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab".to_owned(),
        ] {
            let why = weakness(weak.as_bytes()).unwrap();
            assert!(!why.contains(&weak), "{weak}");
        }
    }
}
