use crate::{CapSet, Result, State};
use ireko_sys::{ErrorKind, Failure};

/// The five sets in the text of a `/proc/PID/status`.
pub(crate) fn parse(text: &str) -> Result<State> {
    let set = |key: &str| -> Result<CapSet> {
        text.lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .find_map(|value| u64::from_str_radix(value.trim(), 16).ok())
            .map(CapSet::from_bits)
            .ok_or_else(|| {
                Failure::ours(
                    ErrorKind::Unsupported,
                    "read a process's capabilities",
                    format!("its status has no {key}"),
                )
                .into()
            })
    };
    Ok(State {
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        inheritable: set("CapInh")?,
        bounding: set("CapBnd")?,
        ambient: set("CapAmb")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\tCapEff: 1\nUmask:\t0022\nPid:\t1\n\
        CapInh:\t0000000000000001\nCapPrm:\t000001fffeffffff\nCapEff:\t00000000a80425fb\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\n";

    #[test]
    fn reads_the_five_sets() {
        let state = parse(TEXT).unwrap();
        assert_eq!(state.effective, CapSet::COMPAT);
        assert_eq!(state.permitted.bits(), 0x1ff_feff_ffff);
        assert_eq!(state.inheritable.bits(), 1);
        assert_eq!(state.bounding.bits(), 0x1ff_ffff_ffff);
        assert_eq!(state.ambient, CapSet::EMPTY);
    }

    #[test]
    fn a_missing_or_broken_line_is_an_error_and_never_an_empty_set() {
        for (from, to) in [("CapAmb:", "CapX:"), ("CapBnd:\t0000", "CapBnd:\tzzzz")] {
            let error = parse(&TEXT.replace(from, to)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{from}");
        }
        assert!(parse("").is_err());
    }
}
