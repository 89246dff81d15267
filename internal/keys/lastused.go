package keys

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// lastUsed collects when keys were used, so that many uses become one write.
type lastUsed struct {
	mu sync.Mutex
	at map[string]int64 // by key id, in microseconds since 1970: there may be a million
}

func (l *lastUsed) note(keyID string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[string]int64{}
	}
	l.at[keyID] = max(l.at[keyID], now.UnixMicro())
}

func (l *lastUsed) take() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.at
	l.at = nil
	return taken
}

// NoteUsed notes that a service saw the key in use.
func (k *Keys) NoteUsed(keyID string, at time.Time) { k.lastUsed.note(keyID, at) }

// flushAtOnce is how many keys one statement touches: a flush of very many is cut off by time, and gets on all the same.
const flushAtOnce = 2000

// FlushLastUsed writes when keys were last used. What could not be written is kept for the next time.
func (k *Keys) FlushLastUsed(ctx context.Context) error {
	taken := k.lastUsed.take()
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(taken)), flushAtOnce) {
		times := make([]time.Time, len(ids))
		for i, id := range ids {
			times[i] = time.UnixMicro(taken[id])
		}
		if err := touch(ctx, k.Pool, ids, times); err != nil {
			for id, at := range taken {
				k.lastUsed.note(id, time.UnixMicro(at))
			}
			return err
		}
		for _, id := range ids {
			delete(taken, id)
		}
	}
	return nil
}
