//! What a copy has to do next, and that doing it makes it what the log is.

use super::*;

fn epochs(entries: &[(i32, Offset)]) -> Epochs {
    let mut epochs = Epochs::new();
    for &(epoch, start) in entries {
        epochs.assign(epoch, start);
    }
    epochs
}

type Side<'a> = (Offset, Offset, &'a [(i32, Offset)]);

fn next(log: Side<'_>, copy: Side<'_>) -> CopyStep {
    let (log_epochs, copy_epochs) = (epochs(log.2), epochs(copy.2));
    let log = Extent { start: log.0, end: log.1, epochs: &log_epochs };
    next_step(log, Extent { start: copy.0, end: copy.1, epochs: &copy_epochs })
}

#[test]
fn a_copy_follows_whatever_the_log_does() {
    let one: &[(i32, Offset)] = &[(1, 0)];
    let cases: &[(Side<'_>, Side<'_>, CopyStep)] = &[
        // From the beginning to the end.
        ((0, 9, one), (0, 0, &[]), CopyStep::Copy(0)),
        ((0, 9, one), (0, 4, one), CopyStep::Copy(4)),
        ((0, 9, one), (0, 9, one), CopyStep::Level),
        ((0, 0, &[]), (0, 0, &[]), CopyStep::Level),
        // An epoch without records is no difference.
        ((0, 9, &[(1, 0), (2, 9)]), (0, 9, one), CopyStep::Level),
        // Records were deleted: some that the copy has, all that it has, more.
        ((3, 9, &[(1, 3)]), (0, 5, one), CopyStep::Raise(3)),
        ((3, 9, &[(1, 3)]), (3, 5, &[(1, 3)]), CopyStep::Copy(5)),
        ((5, 9, &[(1, 5)]), (0, 5, one), CopyStep::Restart(5)),
        ((7, 9, &[(1, 7)]), (0, 5, one), CopyStep::Restart(7)),
        ((7, 9, &[(1, 7)]), (7, 7, &[]), CopyStep::Copy(7)),
        ((9, 9, &[]), (0, 9, one), CopyStep::Restart(9)),
        ((9, 9, &[]), (9, 9, &[]), CopyStep::Level),
        // The log was cut, and perhaps went on otherwise.
        ((0, 3, one), (0, 5, one), CopyStep::Cut(3)),
        ((0, 9, &[(1, 0), (2, 3)]), (0, 5, one), CopyStep::Cut(3)),
        ((0, 9, &[(1, 0), (3, 4)]), (0, 5, &[(1, 0), (2, 3)]), CopyStep::Cut(3)),
        ((0, 3, &[(2, 0)]), (0, 5, one), CopyStep::Restart(0)),
        // It began anew, behind or before where it was.
        ((20, 25, &[(2, 20)]), (0, 5, one), CopyStep::Restart(20)),
        ((2, 4, &[(2, 2)]), (3, 5, &[(1, 3)]), CopyStep::Restart(2)),
        ((2, 2, &[]), (2, 5, &[(1, 2)]), CopyStep::Restart(2)),
    ];
    for &(log, copy, expected) in cases {
        assert_eq!(next(log, copy), expected, "log {log:?}, copy {copy:?}");
    }
}
