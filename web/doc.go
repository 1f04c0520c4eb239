// Package web owns the page as it was built: its files, compressed beforehand, and how they are served. It knows nothing of
// what the page shows, and it is built without Node: dist is committed, and `make web` makes it anew.
package web
