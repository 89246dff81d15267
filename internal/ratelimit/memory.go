package ratelimit

import (
	"sync"
	"time"
)

// window is what this replica knows of a subject's window. Its shard's lock guards it.
type window struct {
	subject    string
	shard      *shard
	start, end int64 // Unix time in nanoseconds
	requests   int32 // the limit
	left       int64 // tokens of ours
	exhausted  bool  // nothing is left beyond them
	pending    *chunk
}

func (w *window) length() time.Duration { return time.Duration(w.end - w.start) }

// ended is a window in Postgres that this replica has left, until its row is deleted.
type ended struct {
	subject    string
	start, end int64
}

// shard is a part of the memory.
type shard struct {
	mu      sync.Mutex
	windows map[string]*window // each subject's latest
	ended   []ended
	_       [64]byte // keeps the locks out of each other's cache line
}

// current returns the subject's window at the time, made as needed. A window whose limit was lowered begins anew, without
// the tokens that were taken under the higher one: Postgres knows whether they are still within the limit.
func (s *shard) current(subject string, limit Limit, now int64) *window {
	w := s.windows[subject]
	switch {
	case w == nil:
	case now < w.start || now >= w.end || w.length() != limit.Window:
		s.leave(w)
	case limit.Requests < w.requests:
	case limit.Requests > w.requests:
		w.requests, w.exhausted = limit.Requests, false
		return w
	default:
		return w
	}
	start := now - now%int64(limit.Window)
	w = &window{subject: subject, shard: s, start: start, end: start + int64(limit.Window), requests: limit.Requests}
	s.windows[subject] = w
	return w
}

func (s *shard) leave(w *window) {
	s.ended = append(s.ended, ended{subject: w.subject, start: w.start, end: w.end})
}

// sweep forgets the windows that are over and returns those that ended before the given time, whose rows can go.
func (s *shard) sweep(now, before int64) []ended {
	s.mu.Lock()
	defer s.mu.Unlock()
	for subject, w := range s.windows {
		if w.end <= now {
			s.leave(w)
			delete(s.windows, subject)
		}
	}
	var over, kept []ended
	for _, e := range s.ended {
		if e.end < before {
			over = append(over, e)
		} else {
			kept = append(kept, e)
		}
	}
	s.ended = kept
	return over
}
