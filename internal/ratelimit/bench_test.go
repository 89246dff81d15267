package ratelimit

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func BenchmarkTake(b *testing.B) {
	limit := Limit{Requests: 1_000_000_000, Window: 24 * time.Hour}
	b.Run("from memory", func(b *testing.B) {
		r := newReplicas(b, 1, time.Now)[0]
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = r.Take(context.Background(), "key_01JA2Z3V4W5X6Y7Z8A9B0C1D2E", limit)
		}
	})
	b.Run("refused", func(b *testing.B) {
		r := newReplicas(b, 1, time.Now)[0]
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = r.Take(context.Background(), "key_01JA2Z3V4W5X6Y7Z8A9B0C1D2E", Limit{Requests: 1, Window: 24 * time.Hour})
		}
	})
	for _, subjects := range []int64{1, 10_000} {
		b.Run(fmt.Sprintf("64 callers, %d subjects", subjects), func(b *testing.B) {
			r := newReplicas(b, 1, time.Now)[0]
			names := make([]string, subjects)
			for i := range names {
				names[i] = fmt.Sprintf("key_01JA2Z3V4W5X6Y7Z8A9B%06d", i)
				r.take(b, names[i], limit)
			}
			var caller atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(32) // times GOMAXPROCS
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				i := caller.Add(1) * 157
				for pb.Next() {
					i++
					_, _, _ = r.Take(context.Background(), names[i%subjects], limit)
				}
			})
		})
	}
	b.Run("with a query each", func(b *testing.B) {
		r := newReplicas(b, 1, time.Now)[0]
		for i := 0; b.Loop(); i++ {
			_, _, _ = r.Take(context.Background(), fmt.Sprintf("key_%d", i), limit)
		}
	})
}
