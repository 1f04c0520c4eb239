// Package web owns the tests of the page in a browser: chromium, driven by playwright-core, against the built daemon with real
// containers. The checks are in browser/*.ts; what is here starts and kills what they look at, and checks nothing itself.
package web
