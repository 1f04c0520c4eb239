// Package volume owns the files of volumes on this machine: their directories, the mounts of those that have options, and
// what a crash left of either. It must not know containers, images or Docker's HTTP API; which volumes there should be
// is the caller's to say.
//
// # Places
//
//	ROOT/TENANT/NAME/_data        the files of a volume
//	ROOT/TENANT/NAME/.copy        what will be its first files, while they are being copied
//	ROOT/.trash/ID/TENANT/NAME    a volume that is being removed
//	RUN/TENANT/NAME               where a volume with options is mounted while it is in use
//	RUN/.parts/USER-N             where a part of a volume is mounted while a container is made
//
// A volume's removal begins with a rename into the trash and ends with the files, so that a kill in between is decided
// by whether the volume is still wanted: Reconcile puts it back or finishes the removal. Files that nobody wants and
// that are not in the trash are never removed: they are somebody's data, and a lost record must not cost them.
// What has options is mounted outside of ROOT: no removal of a directory can reach what is mounted there.
package volume
