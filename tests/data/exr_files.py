"""Small files written by the OpenEXR library (3.5.3), as zlib in base 85.

Each holds `PIXELS`, 18 lines of 3, in channel Z (`layers`: depth.Z beside R, G, B;
`grey`: R, G, B alike); the names give compression and bits.
"""

import base64
import zlib

import numpy as np

_INDEX = np.arange(18 * 3).reshape(18, 3)
PIXELS = np.where(_INDEX < 20, 2.0, (_INDEX * 7 % 13) / 4).astype(np.float32)


def content(name: str) -> bytes:
    """The bytes of a file."""
    return zlib.decompress(base64.b85decode("".join(_FILES[name].split())))


_FILES = {
    "none16": r"""
        c-n=KPfmkC6o(&JEB>jrG4TZMjl_j%YzuX-iJK<I%?Q(W44om&q|zNLPv8kWfoJdpp1>1$0#`D_n*e
        ScLcaN!_j?ampPf4{07Of|IZb4_Ntje{Tt2%82dd@Z4Ut%-8I_U=-rAePm?$!1JQmOJC~}`cAL^xt4
        0I8bX+k#t)+LP7+bpJ8V`rwMET>5*QyQr|qL_erB8Y;HNf#3tWt8%&{WayPjII4Sc#RRwk{OHD@=pu
        3NhwH`F}{GFsV7{&1Y3~>g%A8GpU5xdH}VJRxfM^4r$`?eAa9Tl$R}iud_le<-;nQa{Y72VP+v~V+?
        H*%tkbgXmUWvJ?pV7jLKu10rZ5KBwKjnZ2==U976A<Rt%W*yU~Qz6J!>X;SkEhyN7jZq*+<i}VLGs9
        W1aj3SR!M|
    """,
    "rle32": r"""
        c-n=KJx;?g6vtos0VTB1ij|=!;G+k?0S<t~KqWSlxUEs@M6p%c1?3E!pc98+syF}>2S5xQ0U<GfoxD
        0N8AxRP?4O_ie#zwU*r@=3KcYggQ0hs@rGh=}uEFe>$H4)9G>#J{C6C0~JSzyOqJ1uc=nih8X^%r2i
        pNBC^a!|&LpuAnF64q;BmqlSW?2g{pR({&#>`ijRPhJ~VMG<wvePM%e!`f@<IkB;`q-p5fX2!dt0jF
        NsL`JYHH#TYm2feHR#s1iX@ZaGkioN)r@SIRkY7j_f7(9s0C|SILf#_pkq^j6<P-7*`HuWVy4B)~Ts
        ?lEo_;Sp{W>L6DVb`?)JmpaG8=l;%&+wF(e*a1O9{Y{c5~9O&eQ7!F|#e}-t;;>F`I6Yr(IjudSu(W
        uD8r=S~n-l%vN#MX6~%_mu2o2y^v*Q+q%48li9H@@7HAh0@^)^Q2
    """,
    "zips16": r"""
        c-n=KKTg9i6o+3zDdA6{6%r?4M??&$qHR)kkXR}q7L&NGk?TaURnjdJC*TB}fHQCcPQVE`0TXfZti&
        uhvOa(D`}sLppPf4{07Oe71m&_^a3&QTm+$VufqFPNAxc(hMx|tlu-1Chjfo;NCgS879+TW>(1&K|C
        WCUuOs1S{{;lIo(AzAgS!-2YA!Rw`p-gF{?ucRu%y~i-bgFbQkx@pesE@y<LY1+#KL@YXqFpj$v0DB
        )LTyqCQe{jmpjXusp)bK!WI^Erf66EF3;B)wL3(b@6XYq<M+V3n<OA{vnIm72ugEv#yW4zGw>nTij%
        BW8Tb6Y!+qSIRws6PTRT09-Gd6`Wz^<_gTtKjA?6L@8xNj`f$pd2}o$MK_l7~&dGI?ZdsFQs(-5aI@
        vp3esUtI`e%K
    """,
    "zip32": r"""
        c-kw|H)LdDU|>kjNX*Mi%_#;lax#lc7=(dhQ4Am%5MYF2hUEO*f}+&o;>`R!6gEhbIVG_qF+4LbCBK
        {@DZj!flR<z10YF9x0&z-aaY0UEB|&vLnR%)HMJcI8NGz}u3NkBFa~z8cQj<%95=%1k8Pam{6H6Faz
        `7gki<65|Q}ZCkJE!KA0JW7Fr7>_IS%Iu1JTs*v1I>t%%7Rpe;*z4wymSU$u=>P2kRvj46Vp=}oERa
        dG&3Shv;^Xcxa154Asvr|gc|}2K0Ih>KHS*W*22oeqi~Uvm0jk;X_*2Av3KPy58K-Q_WhnS!L{HN14
        H${r~@G1OMs0raA06qV9&td0HhDtLyUf44*(90X-)
    """,
    "piz32": r"""
        c-pm2J8l9&4D})knn*-kAU7aTQe+o#fJih*>4qHxmIlvg#^Td)6poT(q|8y`*+pWLCQV|=dQbLy&pw
        PNMGpY#onc0olsHNPBb~iL-sCE74Yl8gh$)fhZ#*yi)`(dVTYrSLKTQdSaIYNosBI|)XU@Os95KE|i
        ?PF+7XqEo%~QZymPW|K#(5*qZ`_wM)e(`~_yw}4?J(WIpmU-tS&^09j|e#jgd~x83lELnaDIaJW{WT
        @?nxglRDat~RsI6tS@Eh^DZZEOsZYhr%T23%s92T%;rRls{$u?
    """,
    "layers": r"""
        c-kw|H)LdDU|>kjNX*Mi%_#;lax#lc82o`^P7EL!5MYF2cMOpr43U)7f|3lqC=79i<ow)%qSWHz%=|
        nQHb{~=C9xziJTosPznmc{zrrY!L4W}PKt>6IjLs}B$Vsdus4gcnFV(*&CAA2N1$II~W<_d_V{t)ha
        !F8PNoGDnT26jq2?GmQcY}R#a#3n(9>jR()Vva)wlbqM1`Z@Ekd=gIrj%r$8BtPMkjhY8Qk0pO&cF*
        +pO^=7L}qScdMZO5Bg7PACWMJ=fw&^>>cl|a!v;JqybA@G5(VZcNw7F;v@{2Bv>CAUD)Klfh#XonPp
        Lfm|8mPyFQ1D1R&p%}$;i<78MFW6T_@*i#b8&t@0S{Dqr{C&Lzo2$g%yL(x-#5T2yQIpyjpSZ%*hb7
        FHCQQD^uFC)^vABSEkJB?g@`opV0nTE$JS&gWNCq)uHd6Jlt}s-X~8qqjdJ=yU(t?`8((HylL-3^@P
        va7;XMueeP$?3+}t8bIyZ8+#2lY<QoDDK0IhR%-+b!%EKdI)>2||;lhLs364x2B8S>0u*-b2mMds*<
        dAlGSDus6aKXTA1`9*fJKX~Sh4r?&
    """,
    "grey": r"""
        c-kw|H)LdDU|>kjNX*Mi%_#;lax#lc7|elUP7EL!5MYF2cMOpr3=xLp{M>?~)Z*gI{5%vkNRl}vu_Q
        4(GcP5-oFOT{!YGqLfB^wOMhOCON@j6EPGTiNbvc=Nss2SNsYOUEuoDV0D^hbDiwjbdOM((hGV>YIa
        `F>P7+Ao%8|;gdi&9hbAjUhV=9K`ol^LZma3EQMtRy@$r6dE*h?2^JREFY`qRhN>241lG#5|BAGIJB
        tQyJ12A*NhrM3|Tg#1(Nz&jfNd1n{&zbTvGc#-x0Q!_7jlr$Bke0o|^^8i_}e8b6kNKg8brR=nm<Rk
        G`~%o{fYcpGwKmvHG6Ys^+P^L`WDc{b?l`S)V4j<xM#Tyxv3E$scebN5WI&(+zezm8AzzQB1<NNIvC
        OTHnn;KPFkW}}w{3l=ISG8$DLNZkLJkv*kof3ox8I(HQz2F57m0|0qBj!O
    """,
}
