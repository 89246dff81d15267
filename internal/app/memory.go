package app

// ballastSize is what the garbage collector counts as in use beside what is: it then collects several times less often
// while little is cached, for memory that is bounded by it. It is never written to, so that it takes none itself.
const ballastSize = 32 << 20

type ballast []byte

func newBallast() ballast { return make(ballast, ballastSize) }
