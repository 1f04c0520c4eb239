// Package deploy tests what deploy/ gives to operators against the programs that read it. It must not be imported.
package deploy
