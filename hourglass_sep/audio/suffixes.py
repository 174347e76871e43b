"""File suffixes of audio and video; they select files in folders only, the format is read from the first bytes."""

SUFFIXES = (
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".afc", ".caf", ".au", ".snd", ".voc"),
    *(".avr", ".ircam", ".sf", ".nist", ".sph", ".paf", ".pvf", ".sd2", ".sds", ".8svx", ".wve", ".sox"),
    *(".flac", ".alac", ".ape", ".wv", ".tta", ".tak", ".shn", ".dsf", ".dff", ".wsd", ".mlp", ".thd", ".qoa", ".osq"),
    *(".mp3", ".mp2", ".mp1", ".mpa", ".m2a", ".mpga", ".mpc", ".ogg", ".oga", ".ogx", ".opus", ".spx", ".weba"),
    *(".m4a", ".m4b", ".m4r", ".aac", ".adts", ".latm", ".loas", ".ac3", ".eac3", ".ec3", ".dts", ".dtshd", ".wma"),
    *(".ra", ".rm", ".amr", ".awb", ".3ga", ".gsm", ".g722", ".aptx", ".sbc", ".oma", ".aa3", ".at3", ".vqf", ".qcp"),
    *(".mka", ".adx", ".ast", ".hca", ".mmf", ".xwma"),
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".flv", ".f4v", ".wmv", ".asf", ".ogv"),
    *(".ogm", ".mpg", ".mpeg", ".mpe", ".m2p", ".vob", ".evo", ".vro", ".ts", ".tp", ".trp", ".mts", ".m2ts", ".m2t"),
    *(".3gp", ".3gpp", ".3g2", ".3gp2", ".rmvb", ".mxf", ".gxf", ".dv", ".wtv", ".nut", ".nsv", ".nuv", ".swf", ".amv"),
    *(".isma", ".ismv", ".mj2", ".psp"),
)
"""Suffixes of the files searched for in folders. A file given by its path is opened whatever its suffix."""
