package node

import (
	"math/rand/v2"
	"strconv"

	"github.com/tritond/triton/pkg/triton"
)

// Names are a quality and a moon: short, easy to say aloud, and no person's.
var (
	qualities = []string{
		"able", "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosmic", "crisp",
		"deep", "eager", "early", "fair", "fast", "fine", "fresh", "gentle", "glad", "golden", "grand", "happy",
		"hardy", "icy", "keen", "kind", "lively", "lucid", "merry", "mild", "neat", "nimble", "noble", "patient",
		"plain", "proud", "quick", "quiet", "rapid", "ready", "sharp", "silent", "smooth", "solid", "steady", "still",
		"sunny", "swift", "tidy", "true", "vivid", "warm", "wise", "witty",
	}
	moons = []string{
		"amalthea", "ananke", "ariel", "atlas", "belinda", "bianca", "callisto", "calypso", "carme", "charon",
		"cordelia", "cressida", "deimos", "despina", "dione", "elara", "enceladus", "epimetheus", "europa", "galatea",
		"ganymede", "helene", "himalia", "hyperion", "iapetus", "io", "janus", "juliet", "larissa", "leda", "luna",
		"metis", "mimas", "miranda", "naiad", "nereid", "oberon", "ophelia", "pan", "pandora", "pasiphae", "phobos",
		"phoebe", "portia", "prometheus", "proteus", "puck", "rhea", "rosalind", "sinope", "telesto", "tethys",
		"thalassa", "thebe", "titan", "titania", "triton", "umbriel",
	}
)

// freeName picks a name that no container of the tenant on this node has. Two creates may still pick the same one: the
// record's transaction decides.
func (n *Node) freeName(tenant triton.Tenant) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for try := 0; ; try++ {
		name := qualities[rand.IntN(len(qualities))] + "_" + moons[rand.IntN(len(moons))]
		if try > 2 {
			name += strconv.Itoa(rand.IntN(1 << (3 * try)))
		}
		if _, taken := n.names[nameKey{tenant, name}]; !taken {
			return name
		}
	}
}
