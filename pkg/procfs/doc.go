// Package procfs owns the view of a process that procfs gives, through its directory, which never comes to mean another
// process: its files, its mappings, what is mapped. It must not know containers, and opens nothing by a path that a
// container could have put something else at.
package procfs
