package app

import (
	"math"
	"runtime/debug"
)

// ballastSize is what the garbage collector counts as in use beside what is: it then collects several times less often
// while little is cached, for memory that is bounded by it. It is never written to, so that it takes none itself.
const ballastSize = 32 << 20

type ballast []byte

func newBallast() ballast { return make(ballast, ballastSize) }

// What a server is to get by with in bytes, if its operator does not say (GOMEMLIMIT): near it garbage is collected more
// often.
const (
	baseMemory   = 128 << 20
	memoryPerKey = 256
)

// tidyMemory gives back what only building needed, and bounds the garbage that may lie about.
func tidyMemory(cachedKeys int) {
	debug.FreeOSMemory()
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(baseMemory + memoryPerKey*int64(cachedKeys))
	}
}
