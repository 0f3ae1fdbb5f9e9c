//! When the sandbox is entered, and what is said of a daemon that it has ended.

use super::claim;
use super::serve::{Event, ServeRequest};
use crate::sandbox::{self, Confined, Place, Sandbox, UserError};

/// Gives up what serving does not take, before there are other threads.
pub(super) fn confine(
    request: &ServeRequest,
    lacks: &mut Vec<String>,
) -> Result<Confined, UserError> {
    let folder = &request.runtime_dir;
    if let Some(user) = &request.user {
        sandbox::become_user(user, folder)?;
    }
    if request.sandbox != Sandbox::Off {
        // A rule needs it there. What is in the way is told when it is used.
        let _ = claim::make_folder(folder);
    }
    let places = places(request);
    if let Some(paths) = &request.plan.paths {
        lacks.extend(paths.missing().map(|path| {
            let path = path.display();
            format!("paths: {path} is not there: nothing below it can be served before the daemon is started anew")
        }));
    }
    Ok(sandbox::enter(
        request.sandbox,
        folder,
        places.as_deref(),
        lacks,
    ))
}

/// Returns what of the file system may ever be needed; none if that is not known.
fn places(request: &ServeRequest) -> Option<Vec<Place>> {
    let Some(reload) = &request.reload else {
        let devices = request.plan.devices.iter();
        let places = devices.flat_map(|wanted| wanted.options.places());
        return Some(places.collect());
    };
    // What comes with a reload may be anywhere unless the configuration limits it, and what landlock has refused it never
    // allows.
    let mut places = request.plan.paths.as_ref()?.places();
    places.push(Place::Configuration(reload.file.clone()));
    Some(places)
}

/// Says how to find out whether the daemon before was ended for a system call.
pub(super) fn tell_why_killed(events: &[Event]) {
    let was_killed = |event: &Event| matches!(event, Event::TakenOver { from: None, .. });
    if events.iter().any(was_killed) {
        tracing::info!(
            "the daemon before was killed: if the kernel's log has a line with type=1326 of it, that was for a system call; \
             --sandbox=log has the kernel log such calls and lets them pass, --sandbox=off allows all"
        );
    }
}
