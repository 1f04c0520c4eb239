package telemetry

import (
	dto "github.com/prometheus/client_model/go"
	"github.com/tritond/triton/pkg/triton"
	"google.golang.org/protobuf/proto"
)

// classicExponents are the powers of two seconds that are classic bucket bounds: 1 us to 16 s, factor 64: each bound is a
// series. They are native bounds too, so the two forms agree exactly.
var classicExponents = [...]int{-20, -14, -8, -2, 4}

// encodeHistogram gives a histogram in both forms: native buckets for a protobuf scrape, and classic buckets for a text
// scrape. client_golang's constructors give one or the other. The count is the sum of the buckets, as native histograms
// demand.
func encodeHistogram(h triton.Histogram) *dto.Histogram {
	out := &dto.Histogram{
		SampleCount:   proto.Uint64(h.Count()),
		SampleSum:     proto.Float64(float64(h.SumNs) / 1e9),
		Schema:        proto.Int32(h.Schema),
		ZeroThreshold: proto.Float64(0),
		ZeroCount:     proto.Uint64(0),
		Bucket:        classicBuckets(h),
	}
	out.PositiveSpan, out.PositiveDelta = nativeBuckets(h)
	if len(out.PositiveSpan) == 0 {
		// The wire format's mark of an empty native histogram, without which it would be taken for a classic one.
		out.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	return out
}

// classicBuckets cumulates h at the classic bounds. +Inf is implied by the count.
func classicBuckets(h triton.Histogram) []*dto.Bucket {
	buckets := make([]*dto.Bucket, 0, len(classicExponents))
	var sum uint64
	next := 0
	for _, exp := range classicExponents {
		index := exp << h.Schema // the native bucket whose upper bound is 2^exp
		for ; next < len(h.Counts) && int(h.First)+next <= index; next++ {
			sum += h.Counts[next]
		}
		buckets = append(buckets, &dto.Bucket{CumulativeCount: proto.Uint64(sum), UpperBound: proto.Float64(exp2(exp))})
	}
	return buckets
}

func exp2(e int) float64 {
	if e < 0 {
		return 1 / float64(uint64(1)<<-e)
	}
	return float64(uint64(1) << e)
}

// nativeBuckets encodes the buckets that are not empty: spans of consecutive indexes, and counts as differences.
func nativeBuckets(h triton.Histogram) (spans []*dto.BucketSpan, deltas []int64) {
	var before int64
	end := 0 // index after the last span; the first span's offset counts from 0
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		index := int(h.First) + i
		if len(spans) == 0 || index != end {
			spans = append(spans, &dto.BucketSpan{Offset: proto.Int32(int32(index - end)), Length: proto.Uint32(0)})
		}
		last := spans[len(spans)-1]
		last.Length = proto.Uint32(last.GetLength() + 1)
		deltas = append(deltas, int64(n)-before)
		before, end = int64(n), index+1
	}
	return spans, deltas
}
