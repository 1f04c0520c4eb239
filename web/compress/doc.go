// Command compress owns the packed forms of the page's files: it writes NAME.gz beside each file of a folder that shrinks by
// it. It must not change the files themselves. The library is pinned in go.mod, so the bytes do not depend on the versions of
// Node or Go.
package main
