#include "textflag.h"

// func packWide(dst, src *byte, blocks int, lanes *[16][8]uint32) int
//
// Of each four words those that are not zero are put together by a permutation that their mask chooses, and all four are
// written: the next ones overwrite what is too much.
TEXT ·packWide(SB), NOSPLIT, $0-40
	MOVQ  dst+0(FP), DI
	MOVQ  src+8(FP), SI
	MOVQ  blocks+16(FP), CX
	MOVQ  lanes+24(FP), R8
	MOVQ  DI, R9
	VPXOR Y0, Y0, Y0

block:
	LEAQ 8(DI), R10 // where the next word goes
	XORQ R11, R11   // the bitmap
	MOVQ $16, R12

words:
	VMOVDQU   (SI), Y1
	VPCMPEQQ  Y0, Y1, Y2
	VMOVMSKPD Y2, AX
	XORL      $15, AX       // a bit for each word that is not zero
	MOVQ      AX, BX
	SHLQ      $5, BX
	VMOVDQU   (R8)(BX*1), Y3
	VPERMD    Y1, Y3, Y4
	VMOVDQU   Y4, (R10)
	POPCNTL   AX, DX
	LEAQ      (R10)(DX*8), R10
	SHRQ      $4, R11
	SHLQ      $60, AX
	ORQ       AX, R11
	ADDQ      $32, SI
	DECQ      R12
	JNZ       words
	MOVQ      R11, (DI)
	MOVQ      R10, DI
	DECQ      CX
	JNZ       block

	SUBQ R9, DI
	MOVQ DI, ret+32(FP)
	VZEROUPPER
	RET
